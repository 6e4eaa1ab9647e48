"""`load_task`: a task's splits and loaders for one's own trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lra_bench.data.batches import Batch, Batches, BatchSource
from lra_bench.data.building import build_task, resolve_task_options
from lra_bench.data.cache import reading_from
from lra_bench.data.orders import epoch_permutation
from lra_bench.data.prepare import PreparedSplit, Progress, prepare
from lra_bench.data.task import SPLITS, Split, Task, TaskSpec
from lra_bench.errors import UsageError, require, suggest
from lra_bench.registry import Entry, tasks

if TYPE_CHECKING:
    import datasets


class Loader:
    """Iterates over a split in batches, every example once; the last batch may be smaller.

    Shuffled, each iteration is the next epoch and has an order of its own that follows from `seed`
    and `epoch`; set `epoch` to go on from a checkpoint.
    """

    def __init__(self, source: Batches, batch_size: int, *, seed: int = 0, shuffle: bool = False) -> None:
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(self.source.num_examples / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if not self.shuffle:
            yield from self.source.in_order(self.batch_size)
            return
        order = epoch_permutation(self.source.num_examples, self.seed, self.epoch)
        self.epoch += 1
        for start in range(0, len(order), self.batch_size):
            yield self.source.batch(order[start : start + self.batch_size])


class LoadedTask:
    """A task with its options set. Splits are prepared when they are first asked for."""

    def __init__(
        self,
        entry: Entry,
        task: Task,
        options: dict[str, Any],
        *,
        data_dir: Path | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self.entry = entry
        """The card: paper, licence, controls."""
        self.task = task
        self.options = options
        """All options in force."""
        self._data_dir = data_dir
        self._cache_dir = cache_dir
        self._prepared: dict[tuple[Split, int], PreparedSplit] = {}

    def __repr__(self) -> str:
        return f"LoadedTask({self.spec.dataset!r}, {self.spec.variant!r})"

    @property
    def spec(self) -> TaskSpec:
        return self.task.spec

    @property
    def train(self) -> datasets.Dataset:
        return self.dataset("train")

    @property
    def validation(self) -> datasets.Dataset:
        return self.dataset("validation")

    @property
    def test(self) -> datasets.Dataset:
        return self.dataset("test")

    def dataset(self, split: Split, count: int | None = None) -> datasets.Dataset:
        """The first `count` examples of a split (all by default): `input_ids`, `label`, `input_ids_2`."""
        return self.prepared(split, count).dataset

    def prepared(
        self,
        split: Split,
        count: int | None = None,
        *,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> PreparedSplit:
        """The same with its fingerprint; see `prepare`.

        Raises:
            UsageError: no such split.
            DataError: the split has fewer examples, or its source is missing.
        """
        if split not in SPLITS:
            raise UsageError(f"{self.spec.task} has no split {split!r}. {suggest(split, SPLITS)}")
        size = self.task.split_sizes[split] if count is None else count
        if (split, size) not in self._prepared:
            with reading_from(self._data_dir):
                self._prepared[split, size] = prepare(
                    self.task, split, size, workers=workers, progress=progress, root=self._cache_dir
                )
        return self._prepared[split, size]

    def loader(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool | None = None,
        count: int | None = None,
        max_length: int | None = None,
        padding: Literal["longest", "max"] = "longest",
        multiple_of: int = 1,
    ) -> Loader:
        """Batches of a split, shuffled by default for training only; the rest as in `BatchSource`."""
        source = BatchSource(
            self.prepared(split, count),
            self.spec,
            max_length=max_length,
            padding=padding,
            multiple_of=multiple_of,
        )
        return Loader(source, batch_size, seed=seed, shuffle=split == "train" if shuffle is None else shuffle)


def load_task(
    name: str, *, data_dir: Path | str | None = None, cache_dir: Path | str | None = None, **options: Any
) -> LoadedTask:
    """A task by its catalog name or dotted path (`package.module:Class`), with its options.

    `data_dir` is where sources are read from (default: LRA_BENCH_DATA), `cache_dir` where prepared data
    go (default: LRA_BENCH_CACHE, else the user's cache folder).

    Raises:
        UsageError: no such task, or it has no such option; the message lists the near misses.
        OptionError: an option has a value out of range.
        DataError: the task needs a source that is missing.
    """
    entry = tasks.get(name)
    resolved = resolve_task_options(entry, options)
    folder = None if data_dir is None else Path(data_dir).expanduser()
    with reading_from(folder):
        task = build_task(entry, resolved)
    return LoadedTask(
        entry,
        task,
        resolved,
        data_dir=folder,
        cache_dir=None if cache_dir is None else Path(cache_dir).expanduser(),
    )
