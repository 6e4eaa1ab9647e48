"""SHA-256 over examples: what data are, whatever files, shards or workers they came from.

The digest runs over the examples in index order. Each gives, little-endian: the label as int64, the
number of tokens as int64, the tokens in their column's type; for pairs then the number of tokens and
the tokens of the second sequence. Where every token has a label, the labels are one more sequence
(their number, then int32 values) in place of the single label.
"""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lra_bench.data.columns import Rows, rows_of
from lra_bench.errors import DataError

SEQUENCE_COLUMNS = ("input_ids", "input_ids_2")


class Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...


def update_with_examples(hasher: Hasher, table: pa.Table) -> None:
    """Feeds the examples of a table to a hash, a record batch at a time."""
    for batch in table.to_batches():
        hasher.update(_example_bytes(batch))


def _example_bytes(batch: pa.RecordBatch) -> bytes:
    sequences = [rows_of(batch.column(name)) for name in SEQUENCE_COLUMNS if name in batch.schema.names]
    labels = batch.column("label")
    if labels.null_count:
        raise DataError("The column of labels has missing values; every example must have one.")
    if pa.types.is_integer(labels.type):
        label_words = labels.to_numpy(zero_copy_only=False).astype("<i8").reshape(-1, 1)
    else:
        sequences.insert(0, rows_of(labels))
        label_words = np.empty((batch.num_rows, 0), dtype="<i8")
    lengths = [rows.lengths.astype("<i8").reshape(-1, 1) for rows in sequences]
    headers = [np.hstack([label_words, lengths[0]]), *lengths[1:]]  # (rows, words) before each sequence
    if all(len(np.unique(length)) <= 1 for length in lengths):
        return _equal_rows(headers, sequences)
    return _unequal_rows(headers, sequences)


def _equal_rows(headers: list[NDArray[np.int64]], sequences: list[Rows]) -> bytes:
    """All rows have one length: whole columns of bytes are copied at once."""
    parts = []
    for header, rows in zip(headers, sequences, strict=True):
        tokens = rows.values[rows.offsets[0] : rows.offsets[-1]].reshape(len(rows), -1)
        parts += [np.ascontiguousarray(header).view(np.uint8), np.ascontiguousarray(tokens).view(np.uint8)]
    return np.hstack(parts).tobytes()


def _unequal_rows(headers: list[NDArray[np.int64]], sequences: list[Rows]) -> bytes:
    streams = []
    for header, rows in zip(headers, sequences, strict=True):
        width = header.shape[1] * header.itemsize
        data = memoryview(np.ascontiguousarray(header).tobytes())
        streams.append([data[i * width : (i + 1) * width] for i in range(len(rows))])
        tokens = memoryview(rows.values.view(np.uint8))  # type: ignore[arg-type]
        bounds = (rows.offsets * rows.values.itemsize).tolist()
        streams.append([tokens[start:stop] for start, stop in itertools.pairwise(bounds)])
    return b"".join(piece for row in zip(*streams, strict=True) for piece in row)
