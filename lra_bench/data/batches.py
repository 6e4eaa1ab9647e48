"""Batches of padded token ids with masks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_bench.data.columns import TokenColumn
from lra_bench.data.orders import training_indices
from lra_bench.data.prepare import PreparedSplit
from lra_bench.data.task import IGNORED_LABEL, TaskSpec
from lra_bench.errors import DataError, require


@dataclass(frozen=True)
class Batch:
    """Padded rows. `mask` is True at real tokens, or None if no row has padding."""

    input_ids: Tensor
    """(b, n) int64"""
    mask: Tensor | None
    """(b, n) bool or None"""
    labels: Tensor
    """(b,) int64, or (b, n) where every token has a label"""
    input_ids_2: Tensor | None = None
    mask_2: Tensor | None = None
    whole: Tensor | None = None
    """(2,) float32: labels and sequences of the batch that this is a part of; None for a whole one"""

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """What a model takes: (input_ids, mask), and for pairs (input_ids_2, mask_2) after them."""
        if self.input_ids_2 is None:
            return self.input_ids, self.mask
        return self.input_ids, self.mask, self.input_ids_2, self.mask_2

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        return Batch(
            self.input_ids.to(device, non_blocking=non_blocking),
            move(self.mask),
            self.labels.to(device, non_blocking=non_blocking),
            move(self.input_ids_2),
            move(self.mask_2),
            move(self.whole),
        )

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory, from which `to(..., non_blocking=True)` does not wait."""

        def pin(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.pin_memory()

        return Batch(
            self.input_ids.pin_memory(),
            pin(self.mask),
            self.labels.pin_memory(),
            pin(self.input_ids_2),
            pin(self.mask_2),
            pin(self.whole),
        )

    def part(self, rank: int, size: int) -> Batch:
        """The share of process `rank` of `size`: whole rows, their number equal or one more in the last.

        What the whole batch has decided stays: its padded length, and whether there is a mask.
        """
        if size == 1:
            return self
        rows = slice(rank * len(self) // size, (rank + 1) * len(self) // size)

        def cut(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows].clone()  # a view would keep the whole

        num_labels = (self.labels != IGNORED_LABEL).sum()
        return Batch(
            self.input_ids[rows].clone(),
            cut(self.mask),
            self.labels[rows].clone(),
            cut(self.input_ids_2),
            cut(self.mask_2),
            torch.stack([num_labels, torch.full_like(num_labels, len(self))]).float(),
        )


class Batches(ABC):
    """Batches of a split's examples by index, whatever memory they come from."""

    num_examples: int
    max_length: int
    device: torch.device
    """Where the batches are."""

    @property
    @abstractmethod
    def truncated_share(self) -> float:
        """Share of examples that lost tokens to `max_length`, in either sequence for pairs."""

    @abstractmethod
    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The batch of the examples with these indices, in this order; (b,) int64."""

    def training_batch(self, batch_size: int, seed: int, step: int) -> Batch:
        """The batch of a training step, see `training_indices`."""
        return self.batch(training_indices(self.num_examples, batch_size, seed, step))

    def in_order(self, batch_size: int, numbers: Iterable[int] | None = None) -> Iterator[Batch]:
        """Every example once, in order; the last batch may be smaller. For evaluation.

        numbers: of the batches to make, from 0; all by default.
        """
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        for number in range(self.num_batches(batch_size)) if numbers is None else numbers:
            start = number * batch_size
            yield self.batch(np.arange(start, min(start + batch_size, self.num_examples)))

    def num_batches(self, batch_size: int, limit: int | None = None) -> int:
        """Of `in_order`, for all examples or the first `limit`."""
        wanted = self.num_examples if limit is None else min(limit, self.num_examples)
        return math.ceil(wanted / batch_size)


class BatchSource(Batches):
    """Gathers batches from the memory of a prepared split.

    Rows are cut to `max_length` (default: the task's) and padded on the right with the task's padding
    token, to the longest row of the batch ("longest") or to `max_length` ("max"). With "longest" the
    width is rounded up to `multiple_of`, but never beyond `max_length`. Masks come from lengths.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        prepared: PreparedSplit,
        spec: TaskSpec,
        *,
        max_length: int | None = None,
        padding: Literal["longest", "max"] = "longest",
        multiple_of: int = 1,
    ) -> None:
        max_length = spec.max_length if max_length is None else max_length
        require(max_length >= 1, "max_length", max_length, "at least 1")
        require(padding in ("longest", "max"), "padding", padding, "'longest' or 'max'")
        require(multiple_of >= 1, "multiple_of", multiple_of, "at least 1")
        self.max_length = max_length
        self.padding = padding
        self.multiple_of = multiple_of
        self.num_examples = prepared.num_examples
        names = ["input_ids", "input_ids_2"] if spec.paired else ["input_ids"]
        self.columns = [prepared.tokens(name) for name in names]
        self._full_lengths = [prepared.full_lengths(name) for name in names]
        # Where there is no padding token, rows that differ in length are an error below.
        self.pad_id = 0 if spec.pad_id is None else spec.pad_id
        self._can_pad = spec.pad_id is not None
        labels = prepared.dataset.data.column("label")
        per_token = not pa.types.is_integer(labels.type)
        self.labels: NDArray[np.int64] | TokenColumn = (
            TokenColumn(labels) if per_token else labels.to_numpy().astype(np.int64)
        )
        """(num_examples,), or a column of rows where every token has a label."""

    @property
    def truncated_share(self) -> float:
        cut = np.zeros(self.num_examples, dtype=bool)
        for lengths in self._full_lengths:
            cut |= lengths > self.max_length
        return float(cut.mean())

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        parts: list[Tensor | None] = []
        for column in self.columns:
            width, padded = self.extent(column, indices)
            if padded:
                arrays = column.gather_with_mask(indices, width, self.pad_id)  # (b, n) each
                parts += map(torch.from_numpy, arrays)
            else:
                parts += [torch.from_numpy(column.gather(indices, width, self.pad_id)), None]
        input_ids, mask, *second = parts
        assert input_ids is not None
        if isinstance(self.labels, TokenColumn):
            labels = self.labels.gather(indices, input_ids.shape[1], IGNORED_LABEL)
        else:
            labels = self.labels[indices]
        return Batch(input_ids, mask, torch.from_numpy(labels), *second)

    def extent(self, column: TokenColumn, indices: NDArray[np.int64]) -> tuple[int, bool]:
        """How wide the batch of these rows is, and whether any of them is padded.

        Raises:
            DataError: rows differ in length, and the task has no padding token.
        """
        lengths = column.lengths[indices]
        shortest, longest = (min(int(length), self.max_length) for length in (lengths.min(), lengths.max()))
        width = self.max_length if self.padding == "max" and self._can_pad else self._rounded(longest)
        padded = shortest < width
        if padded and not self._can_pad:
            raise DataError(
                f"Rows of {shortest} to {longest} tokens need padding, but the task has no pad_id. "
                "Its sequences must have one length."
            )
        return width, padded

    def _rounded(self, longest: int) -> int:
        if not self._can_pad:
            return longest
        return min(math.ceil(longest / self.multiple_of) * self.multiple_of, self.max_length)
