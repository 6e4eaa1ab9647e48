"""ListOps: the value of a nested expression over digits, in prefix form (Nangia and Bowman 2018).

The settings are those of Long Range Arena (Tay et al. 2020, section 2.2.1): 501 to 1,999 tokens, at most
nine operators inside each other. Data are generated here, or read from the released files.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lra_bench.data.cache import DATA_VARIABLE, data_root
from lra_bench.data.columns import TokenColumn, ragged_column
from lra_bench.data.task import Split, Task, TaskSpec
from lra_bench.errors import DataError, OptionError, require
from lra_bench.tasks.listops_kernel import evaluate, generate
from lra_bench.tasks.listops_lengths import acceptance
from lra_bench.tasks.listops_tokens import PAD, VOCABULARY, decode, encode, with_parentheses
from lra_bench.tasks.listops_tsv import TsvFile, write_tsv

if TYPE_CHECKING:
    import datasets

SPLIT_CLASSES: dict[Split, tuple[int, int]] = {"train": (0, 6), "validation": (6, 7), "test": (7, 8)}
"""Which eighths of all expressions, by a hash of their tokens, belong to a split: first, one past last."""

_MIN_ACCEPTANCE = 1e-4
_MAX_LENGTH = 2**16 + 1
_OFFICIAL_NAMES: dict[Split, str] = {"train": "basic_train", "validation": "basic_val", "test": "basic_test"}
_OFFICIAL_FOLDERS = ("listops-1000", "lra_release/lra_release/listops-1000", "lra_release/listops-1000", ".")


class ListOps(Task):
    """Expressions of more than `min_length` and fewer than `max_length` tokens, and their values.

    Generated data follow the official process, whose random numbers were never seeded: the same
    distribution, other examples. A hash of its tokens assigns every expression to one split, whatever
    the seed, so no expression can be in two. Since the hash knows nothing of the value, a split has
    the distribution of the whole; within a split, short expressions repeat (see
    `PreparedSplit.num_duplicates`), at the official lengths practically none do. The official process
    drops repeated expressions; here they stay.

    `source="official"` reads `basic_{train,val,test}.tsv` (or .gz) of the release, all rows checked;
    min_length, max_depth, max_args and seed have no meaning then.

    Raises:
        OptionError: an option is out of range, or fewer than one drawn expression in 10,000 would
            have a length in range.
        DataError: the official files are missing.
    """

    generator_version = 1

    def __init__(
        self,
        *,
        min_length: int = 500,
        max_length: int = 2_000,
        max_depth: int = 10,
        max_args: int = 10,
        train_size: int = 96_000,
        validation_size: int = 2_000,
        test_size: int = 2_000,
        seed: int = 0,
        source: Literal["generated", "official"] = "generated",
    ) -> None:
        require(min_length >= 1, "min_length", min_length, "at least 1")
        require(
            min_length + 2 <= max_length <= _MAX_LENGTH,
            "max_length",
            max_length,
            f"min_length + 2 (both are exclusive) to {_MAX_LENGTH}",
        )
        require(max_depth >= 1, "max_depth", max_depth, "at least 1")
        require(max_args >= 2, "max_args", max_args, "at least 2")
        require(train_size >= 1, "train_size", train_size, "at least 1")
        require(validation_size >= 1, "validation_size", validation_size, "at least 1")
        require(test_size >= 1, "test_size", test_size, "at least 1")
        require(0 <= seed < 2**63, "seed", seed, "0 to 2**63 - 1")
        require(source in ("generated", "official"), "source", source, "'generated' or 'official'")
        self.min_length, self.max_length = min_length, max_length
        self.max_depth, self.max_args = max_depth, max_args
        self.seed = seed
        self.source = source
        self.split_sizes: Mapping[Split, int] = {
            "train": train_size,
            "validation": validation_size,
            "test": test_size,
        }
        self._lock = threading.Lock()
        self._opened: dict[Split, TsvFile] = {}
        self._paths = _official_paths() if source == "official" else {}
        if source == "generated":
            _require_likely(min_length, max_length, max_depth, max_args)

    @property
    def spec(self) -> TaskSpec:
        generated = (
            f"length{self.min_length + 1}-{self.max_length - 1}-depth{self.max_depth}-args{self.max_args}"
        )
        return TaskSpec(
            task="listops",
            dataset=f"listops-{self.source}",
            variant=generated if self.source == "generated" else "basic",
            num_classes=10,
            vocabulary=VOCABULARY,
            pad_id=PAD,
            max_length=self.max_length - 1,
            fixed_length=False,
            chance=0.1,
        )

    def parameters(self) -> dict[str, Any]:
        if self.source == "official":
            digests = {split: _file_sha256(*_identity(path)) for split, path in self._paths.items()}
            return {"source": "official", "sha256": digests}
        return {
            "source": "generated",
            "min_length": self.min_length,
            "max_length": self.max_length,
            "max_depth": self.max_depth,
            "max_args": self.max_args,
            "seed": self.seed,
        }

    def examples(self, split: Split, start: int, stop: int) -> pa.Table:
        if self.source == "official":
            tokens, offsets, labels = self._official_file(split).read(start, stop)
            longest = int(np.diff(offsets).max(initial=0))
            if longest >= self.max_length:
                raise DataError(
                    f"{self._paths[split]} has an expression of {longest} tokens, the limit is "
                    f"{self.max_length - 1}. Set max_length to at least {longest + 1}."
                )
        else:
            tokens, offsets, labels = generate(
                self.seed,
                (start, stop),
                SPLIT_CLASSES[split],
                (self.min_length, self.max_length),
                (self.max_depth, self.max_args),
            )
        return pa.table({"input_ids": ragged_column(tokens, offsets), "label": pa.array(labels)})

    def warm_up(self) -> None:
        generate(0, (0, 1), (0, 8), (1, 6), (2, 2))
        evaluate_ids(encode("[MAX 1 2 ]"))

    def export(self, split: Split, dataset: datasets.Dataset, folder: Path) -> Path:
        """Writes a prepared split as the official `basic_{train,val,test}.tsv` in `folder`."""
        path = folder / f"{_OFFICIAL_NAMES[split]}.tsv"
        tokens, labels = TokenColumn(dataset.data.column("input_ids")), dataset["label"]
        write_tsv(path, ((tokens[row], int(label)) for row, label in enumerate(labels)))
        return path

    def inspectors(self) -> Mapping[str, Callable[..., Any]]:
        """`decode`: ids to text; `with_parentheses`: to the official text; `evaluate`: to a value."""
        return {"decode": decode, "with_parentheses": with_parentheses, "evaluate": evaluate_ids}

    @classmethod
    def options_for_length(cls, length: int, options: Mapping[str, Any]) -> dict[str, Any]:
        """max_length for a longest expression of `length` tokens, and min_length a quarter of it, as in
        the official 500 to 2,000, unless `options` sets it.

        Raises:
            OptionError: expressions of such a length don't exist or are too rare; official data.
        """
        if options.get("source", "generated") == "official":
            raise OptionError(f"--length {length}: the official ListOps files have their own lengths.")
        require(length >= 4, "length", length, "at least 4, the shortest expression being '[MAX 1 2 ]'")
        scaled = {"min_length": max(1, (length + 1) // 4), **options, "max_length": length + 1}
        cls(**scaled)
        return scaled

    def _official_file(self, split: Split) -> TsvFile:
        with self._lock:
            if split not in self._opened:
                opened = TsvFile(self._paths[split])
                if len(opened) < self.split_sizes[split]:
                    raise DataError(
                        f"{opened.path} has {len(opened):,} rows, expected {self.split_sizes[split]:,}. "
                        f"If that is the whole file, set {split}_size={len(opened)}."
                    )
                self._opened[split] = opened
        return self._opened[split]


def evaluate_ids(ids: NDArray[np.uint8]) -> int:
    """Value of an expression without padding.

    Raises:
        DataError: it is not well formed.
    """
    ids = np.ascontiguousarray(ids, dtype=np.uint8)
    value = int(evaluate(ids, *np.empty((2, len(ids)), dtype=np.int64))) if len(ids) else -1
    if value < 0:
        raise DataError(f"Not a well-formed ListOps expression: {decode(ids)[:80]!r}.")
    return value


@functools.lru_cache(maxsize=64)
def _require_likely(min_length: int, max_length: int, max_depth: int, max_args: int) -> None:
    """Rare lengths would keep the generator, which draws until one fits, busy for ever."""
    share = acceptance(min_length, max_length, max_depth, max_args)
    if share < _MIN_ACCEPTANCE:
        raise OptionError(
            f"min_length={min_length}, max_length={max_length}, max_depth={max_depth}, max_args={max_args}: "
            f"a share of {max(share, 0.0):.1g} of all expressions has {min_length + 1} to {max_length - 1} "
            f"tokens, expected at least {_MIN_ACCEPTANCE:g}. "
            "Raise max_depth or max_args, or widen the range of lengths."
        )


def _official_paths() -> dict[Split, Path]:
    root = data_root()
    if root is None:
        raise DataError(
            "The official ListOps files need a data folder. Set --data-dir or "
            f"{DATA_VARIABLE} to the folder that has listops-1000/basic_train.tsv."
        )
    for folder in _OFFICIAL_FOLDERS:
        candidates = {
            split: [root / folder / f"{name}.tsv", root / folder / f"{name}.tsv.gz"]
            for split, name in _OFFICIAL_NAMES.items()
        }
        found = {
            split: next((path for path in paths if path.is_file()), None)
            for split, paths in candidates.items()
        }
        paths = {split: path for split, path in found.items() if path is not None}
        if len(paths) == len(found):
            return paths
    wanted = ", ".join(f"{name}.tsv" for name in _OFFICIAL_NAMES.values())
    searched = ", ".join(str(root / folder) for folder in _OFFICIAL_FOLDERS)
    raise DataError(f"Expected {wanted} (or .tsv.gz) together in one of {searched}.")


def _identity(path: Path) -> tuple[Path, int, int]:
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=16)
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Hashed once per process while size and time of change stay."""
    del size, mtime_ns
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
