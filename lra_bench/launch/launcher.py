"""What runs a sweep's cells: a pool of processes here, SLURM or Ray. All of them run `execute.execute`.

State lives in the results folder alone: a cell is done when its record is there. A launcher is told what
to run and tells what became of it; whoever else works on the same folder is met through claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from lra_bench.cell import Cell
from lra_bench.launch.claims import LEASE_S

State = Literal["done", "elsewhere", "failed", "stopped", "lost", "crowded"]


@dataclass(frozen=True)
class Work:
    """One cell to run. Plain data, so that it travels to other processes and machines as JSON."""

    cell: Cell
    results: Path
    controls: tuple[Cell, ...] = ()
    """Whose scores the record has to name; their records are there before this is submitted."""
    command: str = ""
    threads: int | None = None
    """Of the training process; all cores by default."""
    time_limit_s: float | None = None
    """Wall seconds after which the cell ends as `timeout`."""
    memory_limit_bytes: int | None = None
    """Above which the cell ends as `oom`."""
    retry: bool = False
    """Whether a cell that has ended as `error` is run again."""
    lease_s: float = LEASE_S
    """A claim that was not renewed for so long is anybody's."""

    def to_json(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content["cell"] = self.cell.to_json()
        content["controls"] = [control.to_json() for control in self.controls]
        content["results"] = str(self.results)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Work:
        values = dict(content)
        values["cell"] = Cell.from_json(values["cell"])
        values["controls"] = tuple(Cell.from_json(control) for control in values["controls"])
        values["results"] = Path(values["results"])
        return cls(**values)


@dataclass(frozen=True)
class Outcome:
    """What became of a piece of work."""

    run_id: str
    state: State
    """`done`: the record is there. `elsewhere`: somebody else holds the claim. `failed`: no record, and the
    message says why. `stopped`: asked to stop, the checkpoint is kept. `lost`: whoever ran it is gone.
    `crowded`: out of memory beside others; only for who said that there are others, and now runs it alone."""
    message: str = ""


class Launcher(Protocol):
    """Runs work somewhere. Use as a context manager: leaving it stops what still runs."""

    capacity: int
    """How many pieces it can take at once; the sweep submits no more."""

    def submit(self, work: Sequence[Work]) -> None:
        """Takes work; returns at once."""

    def poll(self, timeout_s: float) -> list[Outcome]:
        """What has ended since the last call; waits for so long at most for a first one."""

    def stop(self) -> None:
        """Asks everything that runs to save and end, and cancels what waits."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
