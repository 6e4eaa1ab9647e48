"""Prepared splits: a task's examples as Arrow shards on disk, checked each time they are opened.

A split lies in `<cache>/<task>/<variant>-<parameters>/<split>/` as `shard-00000.arrow`, ... of
`task.shard_size` examples, each with a JSON file that holds the SHA-256 over its examples. The JSON
file is written last, so it also says that the shard is complete. A last shard that is shorter than
the others has its number of examples in its name, so that splits of other sizes share the rest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lra_bench.data.cache import remove_stale_temporaries, split_folder
from lra_bench.data.checks import FULL_LENGTH_COLUMNS, check_examples
from lra_bench.data.columns import TokenColumn
from lra_bench.data.hashing import SEQUENCE_COLUMNS, update_with_examples
from lra_bench.data.task import Split, Task, TaskSpec
from lra_bench.errors import DataError, require
from lra_bench.files import atomic_path, write_atomically

if TYPE_CHECKING:
    import datasets

FINGERPRINTS_NAME = "fingerprints.json"

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of examples done and the number asked for."""


@dataclass(frozen=True)
class PreparedSplit:
    """The first so many examples of a split, on disk and checked."""

    spec: TaskSpec
    split: Split
    dataset: datasets.Dataset
    """`input_ids`, `label` and, for pairs, `input_ids_2`; memory-mapped."""
    fingerprint: str
    """SHA-256 over the examples, see `hashing`; 64 hex digits."""

    @property
    def num_examples(self) -> int:
        return len(self.dataset)

    def tokens(self, name: str = "input_ids") -> TokenColumn:
        """A column of token lists (`input_ids`, `input_ids_2`), without copying it."""
        return TokenColumn(self.dataset.data.column(name))

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """(num_examples,); for tasks with one label per example."""
        return np.asarray(self.dataset.data.column("label").to_numpy(), dtype=np.int64)

    def full_lengths(self, name: str = "input_ids") -> NDArray[np.int64]:
        """Tokens each sequence had before the task cut it to the spec's max_length: (num_examples,)."""
        column = FULL_LENGTH_COLUMNS[name]
        if column not in self.dataset.column_names:
            return self.tokens(name).lengths
        return np.asarray(self.dataset.data.column(column).to_numpy(), dtype=np.int64)

    @functools.cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, of its first sequence for pairs: (num_examples,)."""
        return self.tokens().lengths

    @functools.cached_property
    def example_keys(self) -> list[bytes]:
        """A 16-byte digest of each example's tokens, without its label: equal for equal examples."""
        columns = [self.tokens(name) for name in SEQUENCE_COLUMNS if name in self.dataset.column_names]
        keys = []
        for i in range(self.num_examples):
            rows = [column[i] for column in columns]
            # The first length keeps the pairs (ab, c) and (a, bc) apart.
            key = hashlib.blake2b(len(rows[0]).to_bytes(8, "little"), digest_size=16)
            for row in rows:
                key.update(row.tobytes())
            keys.append(key.digest())
        return keys

    @property
    def num_duplicates(self) -> int:
        """Examples whose tokens are those of an earlier one in this split."""
        return self.num_examples - len(set(self.example_keys))

    def num_shared_with(self, other: PreparedSplit) -> int:
        """Different token sequences that are in both splits."""
        return len(set(self.example_keys) & set(other.example_keys))


@dataclass(frozen=True)
class _Shard:
    folder: Path
    start: int
    stop: int
    shard_size: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def path(self) -> Path:
        short = "" if self.size == self.shard_size else f"-first-{self.size}"
        return self.folder / f"shard-{self.start // self.shard_size:05d}{short}.arrow"

    @property
    def record_path(self) -> Path:
        return self.path.with_suffix(".json")


def prepare(
    task: Task,
    split: Split,
    count: int | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    root: Path | None = None,
    turn: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> PreparedSplit:
    """The first `count` examples of a split (all by default), made where they are not on disk yet.

    Shards that exist are kept, so that an interrupted preparation goes on where it was and a larger
    count adds to a smaller one; a shard that is not what was written is reported and made anew.
    Shards are made by `workers` threads (default: as many as there are cores), in `root` (default:
    `cache_root()`). Any number of processes may prepare the same data at once. A shard is made within
    `turn()`, so that others can have the machine in between.

    Raises:
        DataError: the split has fewer examples; the source is missing; the cache can't be written.
    """
    available = task.split_sizes[split]
    count = available if count is None else count
    require(count >= 1, "count", count, "at least 1 example")
    require(workers is None or workers >= 1, "workers", workers, "at least 1")
    if count > available:
        raise DataError(
            f"{task.spec.dataset}: {count:,} {split} examples were asked for, the split has {available:,}."
        )
    folder = split_folder(task, split, root)
    shards = [
        _Shard(folder, start, min(start + task.shard_size, available), task.shard_size)
        for start in range(0, count, task.shard_size)
    ]
    if not all(shard.record_path.exists() for shard in shards):
        remove_stale_temporaries(folder)
    warm_up = _once(task.warm_up)
    hasher = hashlib.sha256()
    parts: list[datasets.Dataset] = []
    done = 0
    pool = ThreadPoolExecutor(workers or _num_cores(), thread_name_prefix="prepare")
    try:
        # Each job gets this thread's context, which may say where sources are (`cache.reading_from`).
        jobs: list[Future[datasets.Dataset]] = [
            pool.submit(copy_context().run, _open_or_build, task, split, shard, warm_up, turn)
            for shard in shards
        ]
        for job in jobs:
            part = job.result()
            if len(part) > count - done:
                part = part.select(range(count - done))
            update_with_examples(hasher, part.data.table)
            parts.append(part)
            done += len(part)
            if progress is not None:
                progress(done, count)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    dataset = _concatenated(parts)
    fingerprint = hasher.hexdigest()
    _note_fingerprint(folder, count, fingerprint)
    return PreparedSplit(task.spec, split, dataset, fingerprint)


def noted_fingerprints(folder: Path) -> dict[int, str]:
    """Number of examples -> SHA-256 over the first so many, for the counts that were prepared."""
    try:
        noted = json.loads((folder / FINGERPRINTS_NAME).read_text("utf-8"))
        return {int(count): str(sha256) for count, sha256 in noted.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _note_fingerprint(folder: Path, count: int, fingerprint: str) -> None:
    """For people who list data; nothing relies on it, so a lost race between two writers does no harm."""
    noted = noted_fingerprints(folder)
    if noted.get(count) != fingerprint:
        content = {**noted, count: fingerprint}
        write_atomically(folder / FINGERPRINTS_NAME, json.dumps(content, indent=1) + "\n")


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _once(function: Callable[[], None]) -> Callable[[], None]:
    """Runs `function` at the first call; calls from other threads wait until it is done."""
    lock = threading.Lock()
    called: list[bool] = []

    def run() -> None:
        with lock:
            if not called:
                function()
                called.append(True)

    return run


def _open_or_build(
    task: Task,
    split: Split,
    shard: _Shard,
    warm_up: Callable[[], None],
    turn: Callable[[], AbstractContextManager[None]],
) -> datasets.Dataset:
    recorded = None
    if shard.record_path.exists():
        try:
            recorded = _recorded_digest(shard)
            return _open_checked(shard, recorded)
        except Exception as error:
            # Depending on the byte that changed, arrow and datasets raise nearly anything.
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            logger.warning("%s is damaged (%s); making it anew.", shard.path, reason)
    with turn():
        warm_up()
        digest = _build(task, split, shard)
    if recorded is not None and digest != recorded:
        logger.warning(
            "%s: the examples made now differ from those recorded before. If the generator has changed, "
            "its generator_version must be raised.",
            shard.path,
        )
    return _open(shard)


def _concatenated(parts: list[datasets.Dataset]) -> datasets.Dataset:
    from datasets import concatenate_datasets

    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def _build(task: Task, split: Split, shard: _Shard) -> str:
    from datasets import Features
    from datasets.arrow_writer import ArrowWriter

    table = task.examples(split, shard.start, shard.stop)
    check_examples(task.spec, table, shard.start, shard.stop)
    with atomic_path(shard.path) as temporary:
        features = Features.from_arrow_schema(table.schema)
        writer = ArrowWriter(path=str(temporary), features=features)
        try:
            writer.write_table(table, writer_batch_size=max(1, table.num_rows))
            writer.finalize()
        finally:
            writer.close()
    digest = _digest(table)
    write_atomically(shard.record_path, json.dumps({"examples": shard.size, "sha256": digest}) + "\n")
    return digest


def _recorded_digest(shard: _Shard) -> str:
    recorded = json.loads(shard.record_path.read_text(encoding="utf-8"))
    if recorded["examples"] != shard.size:
        raise DataError(f"its record speaks of {recorded['examples']} examples, expected {shard.size}")
    return str(recorded["sha256"])


def _open_checked(shard: _Shard, expected: str) -> datasets.Dataset:
    part = _open(shard)
    if _digest(part.data.table) != expected:
        raise DataError("its examples are not those that were written")
    return part


def _open(shard: _Shard) -> datasets.Dataset:
    from datasets import Dataset  # late: it takes a second

    part = Dataset.from_file(str(shard.path))
    if len(part) != shard.size or not {"input_ids", "label"} <= set(part.column_names):
        raise DataError(f"it has {len(part)} rows of {part.column_names}, expected {shard.size} examples")
    return part


def _digest(table: pa.Table) -> str:
    hasher = hashlib.sha256()
    update_with_examples(hasher, table)
    return hasher.hexdigest()
