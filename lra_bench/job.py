"""What a worker is told to do, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_bench.cell import Cell
from lra_bench.record_store import read_record
from lra_bench.records import ControlLevel, RunRecord, Status


@dataclass(frozen=True)
class Job:
    """A cell, where results live and what the record has to say of the run."""

    cell: Cell
    results: Path
    controls: tuple[ControlLevel, ...] = ()
    command: str = ""
    memory_limit_bytes: int | None = None
    """Above which the cell ends as `oom`; by default nearly all that is free when it starts."""
    alone: bool = True
    """No other cell shares the memory. Beside others, running out of it is no result but another try."""
    ended: tuple[Status, str] | None = None
    """The last attempt was ended from outside: all that is left to do is the record with this status and
    reason."""
    threads: int | None = None
    """Of training, as chosen by whoever runs several cells at once; all cores by default. A timed step has
    all of them in any case (see `threads`)."""
    processes: int = 1
    """That run the cell together, each with a part of every batch. They change the time, not the result."""

    def to_json(self) -> dict[str, Any]:
        return {
            "cell": self.cell.to_json(),
            "results": str(self.results),
            "controls": [control.model_dump() for control in self.controls],
            "command": self.command,
            "memory_limit_bytes": self.memory_limit_bytes,
            "alone": self.alone,
            "ended": self.ended,
            "threads": self.threads,
            "processes": self.processes,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        return cls(
            Cell.from_json(content["cell"]),
            Path(content["results"]),
            tuple(ControlLevel(**control) for control in content["controls"]),
            content["command"],
            content["memory_limit_bytes"],
            content["alone"],
            None if content["ended"] is None else (content["ended"][0], content["ended"][1]),
            content["threads"],
            content["processes"],
        )

    def finished(self) -> RunRecord | None:
        """The record, if the cell has one. A damaged record is an error, not a reason to overwrite it.

        A cell that ended as `error` is not finished: with its fault mended, the same command runs it again.
        """
        path = self.cell.record_path(self.results)
        record = read_record(path) if path.exists() else None
        return None if record is not None and record.status == "error" else record
