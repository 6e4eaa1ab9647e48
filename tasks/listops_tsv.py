"""The official ListOps files: a header, then an expression with parentheses, a tab and its value.

Rows are parsed by a compiled function that also evaluates each expression, so that a file with wrong
values is noticed. Writing gives the same bytes as the official writer, CRLF line ends included.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lra_bench.errors import DataError
from lra_bench.files import atomic_path
from lra_bench.tasks.listops_kernel import evaluate
from lra_bench.tasks.listops_tokens import CLOSE, OPERATORS, VOCABULARY, with_parentheses

HEADER = "Source\tTarget"

_NEWLINE, _RETURN, _TAB, _SPACE = 10, 13, 9, 32
_OPEN_ROUND, _CLOSE_ROUND, _OPEN_SQUARE, _CLOSE_SQUARE, _ZERO = 40, 41, 91, 93, 48
# Each operator's letters after the bracket as one number, base 256.
_CODES = np.array([int.from_bytes(name[1:].encode(), "big") for name in OPERATORS], dtype=np.int64)

_OK, _UNKNOWN_TOKEN, _NO_TAB, _BAD_TARGET, _NOT_WELL_FORMED, _WRONG_VALUE = range(6)
_REASONS = {
    _UNKNOWN_TOKEN: f"it has a token other than {' '.join(VOCABULARY[: CLOSE + 1])} ( )",
    _NO_TAB: "it has no tab between expression and value",
    _BAD_TARGET: "its value is not a single digit 0-9",
    _NOT_WELL_FORMED: "its brackets do not match, or an operator has no argument",
    _WRONG_VALUE: "its expression does not have the value given",
}


class TsvFile:
    """An official file, plain (memory-mapped) or gzipped (unpacked in memory).

    Raises:
        DataError: the file can't be read or has another header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = _bytes_of(path)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"Cannot read {path}: {error}. Download or unpack it again.") from error
        self._bounds = _line_bounds(self._bytes) if len(self._bytes) else np.zeros(1, dtype=np.int64)
        header = bytes(self._bytes[: self._bounds[1] if len(self._bounds) > 1 else 0][:200])
        if header.decode("utf-8", "replace").rstrip("\r\n") != HEADER:
            raise DataError(f"{path}, line 1: expected the header {HEADER!r}, found {header!r}.")

    def __len__(self) -> int:
        """Number of expressions."""
        return len(self._bounds) - 2

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Rows start..stop: tokens (total,), offsets (rows + 1,), values (rows,). Releases the GIL.

        Raises:
            DataError: a row is not a ListOps expression with its value; the message names the line.
        """
        tokens, offsets, values, failed, reason = _parse(self._bytes, self._bounds[1 + start : 2 + stop])
        if reason != _OK:
            line = start + failed + 2
            raise DataError(f"{self.path}, line {line}: {_REASONS[reason]}. {self._excerpt(line)}")
        return tokens, offsets, values

    def _excerpt(self, line: int) -> str:
        first, last = self._bounds[line - 1], self._bounds[line]
        text = bytes(self._bytes[first:last]).decode("utf-8", "replace").rstrip("\r\n")
        return f"It reads {text if len(text) <= 80 else text[:40] + ' ... ' + text[-35:]!r}."


def write_tsv(path: Path | str, examples: Iterable[tuple[NDArray[np.uint8], int]]) -> None:
    """Writes (ids, value) pairs as an official file, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(f"{HEADER}\r\n")
        for ids, value in examples:
            stream.write(f"{with_parentheses(ids)}\t{value}\r\n")


def _bytes_of(path: Path) -> NDArray[np.uint8]:
    if path.suffix == ".gz":
        with gzip.open(path) as stream:
            return np.frombuffer(stream.read(), dtype=np.uint8)
    if path.stat().st_size == 0:  # can't be mapped
        return np.empty(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


@njit(cache=True, nogil=True)
def _line_bounds(data):  # type: ignore[no-untyped-def]
    """Where lines start, and at last the end: (lines + 1,). A newline at the end starts no line."""
    size = len(data)
    count = 1
    for k in range(size - 1):
        count += data[k] == _NEWLINE
    bounds = np.empty(count + 1, np.int64)
    bounds[0] = 0
    line = 1
    for k in range(size - 1):
        if data[k] == _NEWLINE:
            bounds[line] = k + 1
            line += 1
    bounds[line] = size
    return bounds


@njit(cache=True, nogil=True)
def _parse(data, bounds):  # type: ignore[no-untyped-def]
    """Lines bounds[i]..bounds[i + 1] -> tokens, offsets, values, first wrong line, reason."""
    count = len(bounds) - 1
    # A token takes at least a byte and a separator, and most of a file is parentheses.
    tokens = np.empty((bounds[count] - bounds[0]) // 2 + 1, np.uint8)
    offsets = np.zeros(count + 1, np.int64)
    labels = np.empty(count, np.int64)
    longest = 1
    for i in range(count):
        longest = max(longest, bounds[i + 1] - bounds[i])
    values = np.empty(longest, np.int64)
    arguments = np.empty(longest, np.int64)
    for i in range(count):
        n = offsets[i]
        k, end = bounds[i], bounds[i + 1]
        while end > k and (data[end - 1] == _NEWLINE or data[end - 1] == _RETURN):
            end -= 1
        while k < end and data[k] != _TAB:
            first = k
            while k < end and data[k] != _SPACE and data[k] != _TAB:
                k += 1
            width = k - first
            if k < end and data[k] == _SPACE:
                k += 1
            letter = data[first] if width > 0 else _OPEN_ROUND
            if width <= 1 and letter in (_OPEN_ROUND, _CLOSE_ROUND):
                continue
            token = -1
            if width == 1 and letter == _CLOSE_SQUARE:
                token = 14
            elif width == 1 and _ZERO <= letter < _ZERO + 10:
                token = letter - _ZERO
            elif 3 <= width <= 4 and letter == _OPEN_SQUARE:
                code = 0
                for j in range(first + 1, first + width):
                    code = code * 256 + data[j]
                for operator in range(4):
                    if code == _CODES[operator]:
                        token = 10 + operator
            if token < 0:
                return tokens, offsets, labels, i, _UNKNOWN_TOKEN
            tokens[n] = token
            n += 1
        if k == end:
            return tokens, offsets, labels, i, _NO_TAB
        if end - k != 2 or not _ZERO <= data[k + 1] < _ZERO + 10:
            return tokens, offsets, labels, i, _BAD_TARGET
        labels[i] = data[k + 1] - _ZERO
        value = evaluate(tokens[offsets[i] : n], values, arguments) if n > offsets[i] else -1
        if value < 0:
            return tokens, offsets, labels, i, _NOT_WELL_FORMED
        if value != labels[i]:
            return tokens, offsets, labels, i, _WRONG_VALUE
        offsets[i + 1] = n
    return tokens[: offsets[count]].copy(), offsets, labels, -1, _OK
