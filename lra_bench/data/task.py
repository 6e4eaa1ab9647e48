"""The contract of a task, and what a model gets to know of it."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa

from lra_bench.errors import OptionError, UsageError

if TYPE_CHECKING:
    import datasets

    from lra_bench.data.sources import Located

IGNORED_LABEL = -100
"""Label of a token whose class is not asked for; the default `ignore_index` of torch's losses."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class TaskSpec:
    """What a model is built from, and what a score is read against."""

    task: str
    """Catalog name."""
    dataset: str
    """Which data these are, as `pathfinder-generated`; generated and released sets never share it."""
    variant: str
    """Short readable name of the options in force, for example `32x32-length14`."""
    num_classes: int
    vocabulary: tuple[str, ...]
    """Token i is vocabulary[i]: a constant, never derived from data."""
    pad_id: int | None
    """Token that fills up shorter sequences, or None where all sequences have one length."""
    max_length: int
    fixed_length: bool
    chance: float
    """Accuracy of the best guess that ignores the input, for balanced classes; controls say more."""
    paired: bool = False
    """Two sequences per example (`input_ids_2`), for the dual encoder."""
    metric: str = "accuracy"
    token_labels: bool = False
    """Every token has a label (IGNORED_LABEL where none is asked for), not every sequence."""
    remarks: tuple[str, ...] = ()
    """What a reader of a score has to know of these data, one sentence each; recorded and shown."""

    @property
    def vocab_size(self) -> int:
        return len(self.vocabulary)

    @property
    def vocabulary_sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.vocabulary).encode()).hexdigest()


class Task(ABC):
    """Examples by split and index.

    Options are keyword-only arguments of the constructor; a value out of range raises OptionError.
    `examples` must be a pure function of the options, the split and the index: whoever asks, in
    whatever order and from however many threads, gets the same bytes.
    """

    generator_version: ClassVar[int] = 1
    """Raised when the same options would give other examples; part of every fingerprint."""
    shard_size: int = 2_000
    """Examples prepared and stored together. The last shard of a split may be shorter."""
    split_sizes: Mapping[Split, int]
    """How many examples each split has; a protocol may use the first so many."""

    @property
    @abstractmethod
    def spec(self) -> TaskSpec: ...

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Everything that shapes the examples, JSON-ready: the data fingerprint covers it."""

    @property
    def code(self) -> type[Task]:
        """The class that the examples come from; of somebody's own, its source shapes them, too."""
        return type(self)

    @abstractmethod
    def examples(self, split: Split, start: int, stop: int) -> pa.Table:
        """Examples start..stop of a split, in index order.

        Columns: `input_ids`, list<uint8, uint16 or int32> or fixed_size_list, cut to the spec's
        max_length; `label`, int64 (list<int32> where every token has one); and `input_ids_2` for
        paired tasks. See `columns.fixed_column` and `columns.ragged_column`. Tasks that cut sequences
        add `full_length` (and `full_length_2`), int64: the tokens there were before.
        Called from several threads at once; releases the GIL where it can.
        """

    def warm_up(self) -> None:  # noqa: B027 - most tasks have nothing to do
        """Compiles or loads what `examples` needs, once, before worker threads start."""

    def export(self, split: Split, dataset: datasets.Dataset, folder: Path) -> Path:
        """Writes prepared examples in the layout of the released files and returns where.

        Raises:
            UsageError: there is no released layout, or none is implemented.
        """
        raise UsageError(f"{self.spec.task} has no file format to export to.")

    @classmethod
    def find_sources(cls, root: Path | None = None) -> list[Located]:
        """Source data found below a data folder, by preference; [] for tasks that only generate."""
        return []

    def inspectors(self) -> Mapping[str, Callable[..., Any]]:
        """Optional functions for people who look at data (`render`, `decode`)."""
        return {}

    @classmethod
    def options_for_length(cls, length: int, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options that make the longest sequence `length` tokens, for `--length`.

        Raises:
            OptionError: the task can't have that length; the message lists those it can.
        """
        raise OptionError(f"--length {length}: this task has a single length.")
