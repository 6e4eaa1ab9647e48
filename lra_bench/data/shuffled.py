"""Any task with the tokens of each sequence in random order: what a score owes to order at all.

A model whose score stays as it was has not used order. Miralles-Gonzalez et al. 2025 (arXiv
2501.14850) ask how much of Long Range Arena is position; this is the bluntest form of the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lra_bench.data.columns import Rows, fixed_column, ragged_column, rows_of
from lra_bench.data.hashing import SEQUENCE_COLUMNS
from lra_bench.data.orders import scrambled
from lra_bench.data.task import SPLITS, Split, Task, TaskSpec


class ShuffledTokens(Task):
    """A task whose sequences are permuted, each in an order of its own, labels of tokens with them.

    The order of a sequence follows from its split and index, so it is the same in every epoch and
    every run. The two sequences of a pair are permuted apart.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.split_sizes = task.split_sizes
        self.shard_size = task.shard_size
        self.generator_version = task.generator_version  # type: ignore[misc]

    @property
    def spec(self) -> TaskSpec:
        spec = self.task.spec
        remark = "The tokens of every sequence are in random order."
        return replace(spec, variant=f"{spec.variant}-shuffled", remarks=(*spec.remarks, remark))

    def parameters(self) -> dict[str, Any]:
        return {**self.task.parameters(), "shuffle_tokens": True}

    @property
    def code(self) -> type[Task]:
        return self.task.code

    def warm_up(self) -> None:
        self.task.warm_up()

    def examples(self, split: Split, start: int, stop: int) -> pa.Table:
        table = self.task.examples(split, start, stop).combine_chunks()
        names = [name for name in SEQUENCE_COLUMNS if name in table.column_names]
        for number, name in enumerate(names):
            rows = rows_of(table.column(name).chunk(0))
            order = _orders(rows, 2 * SPLITS.index(split) + number, start)
            table = _with_tokens(table, name, rows, order)
            if self.task.spec.token_labels:
                table = _with_tokens(table, "label", rows_of(table.column("label").chunk(0)), order)
        return table

    def inspectors(self) -> Mapping[str, Any]:
        return self.task.inspectors()


def _orders(rows: Rows, stream: int, start: int) -> NDArray[np.int64]:
    """For every token of the rows, which token of the same row comes there: (tokens,)."""
    lengths = rows.lengths
    row = np.repeat(np.arange(len(rows), dtype=np.uint64), lengths)
    place = np.arange(lengths.sum(), dtype=np.uint64) - np.repeat(
        np.cumsum(lengths) - lengths, lengths
    ).astype(np.uint64)
    # One counter per token of the task: the stream in the upper bits, then example, then place.
    counter = (np.uint64(stream) << np.uint64(60)) + ((row + np.uint64(start)) << np.uint64(24)) + place
    order: NDArray[np.int64] = np.lexsort((scrambled(counter), row))
    return order


def _with_tokens(table: pa.Table, name: str, rows: Rows, order: NDArray[np.int64]) -> pa.Table:
    values = rows.values[rows.offsets[0] : rows.offsets[-1]][order]
    if pa.types.is_fixed_size_list(table.schema.field(name).type):
        column: pa.Array = fixed_column(values.reshape(len(rows), -1))
    else:
        column = ragged_column(values, rows.offsets - rows.offsets[0])
    return table.set_column(table.column_names.index(name), name, column)
