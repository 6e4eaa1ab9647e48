"""A small task whose examples are known in closed form."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from lra_bench.data.columns import fixed_column, ragged_column
from lra_bench.data.task import Task, TaskSpec


class CountingTask(Task):
    """Example i has the tokens (i + k) % 50, k = 0, 1, ..; its length depends on i unless `fixed`.

    `built` lists the starts of all shards that were asked for.
    """

    def __init__(
        self, *, fixed=False, paired=False, dtype="uint8", shard_size=100, sizes=None, version=1, shift=0
    ):
        self.fixed, self.paired, self.dtype, self.version, self.shift = fixed, paired, dtype, version, shift
        self.shard_size = shard_size
        self.split_sizes = sizes or {"train": 1_050, "validation": 100, "test": 30}
        self.built = []
        self.warmed = 0
        self.fail_at = None
        self.lock = threading.Lock()

    @property
    def spec(self):
        return TaskSpec(
            task="counting",
            dataset="counting-generated",
            variant="fixed" if self.fixed else "ragged",
            num_classes=7,
            vocabulary=tuple(str(i) for i in range(51)),
            pad_id=None if self.fixed else 50,
            max_length=40,
            fixed_length=self.fixed,
            chance=1 / 7,
            paired=self.paired,
        )

    def parameters(self):
        return {"fixed": self.fixed, "paired": self.paired, "dtype": self.dtype, "version": self.version}

    def warm_up(self):
        self.warmed += 1

    def length(self, index):
        return 40 if self.fixed else 1 + (index * 7 + self.shift) % 40

    def tokens(self, split, index):
        return (index + len(split) + np.arange(self.length(index))) % 50

    def label(self, index):
        return index % 7

    def column(self, split, start, stop):
        rows = [self.tokens(split, i) for i in range(start, stop)]
        values = np.concatenate(rows).astype(self.dtype)
        if self.fixed:
            return fixed_column(values.reshape(len(rows), -1))
        return ragged_column(values, np.cumsum([0, *map(len, rows)]))

    def examples(self, split, start, stop):
        with self.lock:
            self.built.append(start)
        if self.fail_at == start:
            raise RuntimeError("the power is gone")
        columns = {"input_ids": self.column(split, start, stop)}
        if self.paired:
            columns["input_ids_2"] = self.column(split, start + 1, stop + 1)
        columns["label"] = pa.array(np.array([self.label(i) for i in range(start, stop)], dtype=np.int64))
        return pa.table(columns)


@pytest.fixture
def counting_task() -> Callable[..., CountingTask]:
    return CountingTask
