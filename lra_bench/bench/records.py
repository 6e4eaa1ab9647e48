"""What a measuring session leaves behind: `session.json`, and one file per cell.

    results/bench/<device>/<session>/session.json
    results/bench/<device>/<session>/cells/<model>-<length>[-compiled].json

A cell is one model at one length. Every group of cells has a `transformer` of its own, the reference, which
has its turn in every round: the ratio of two times is that of turns taken in the same round.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from lra_bench.errors import DataError, UsageError
from lra_bench.files import write_atomically
from lra_bench.protocol import Settings
from lra_bench.record_store import read_part, record_text
from lra_bench.records import (
    FlopsPart,
    ParameterCount,
    Part,
    PeakMemoryPart,
    Status,
    StepMode,
    StepTimePart,
    model_label,
)

SCHEMA = 1
REFERENCE = "transformer"
"""Fused softmax attention: what every time is a ratio to."""
EXPLICIT = "transformer_explicit"
"""The n x n matrix spelled out: the second one."""

Role = Literal["cell", "reference"]


class Turns(Part):
    """Median step time of each turn, in seconds, beside the reference's of the same round."""

    own_s: list[float]
    reference_s: list[float]
    process: list[int] = Field(default_factory=list)
    """Number of the process that each turn was in; the reference's has the same. Empty: all in one."""


class MachineState(Part):
    """How the machine was before and after a cell's turns. None where it can't be read."""

    load_average_before: float | None
    load_average_after: float | None
    throttled: int | None
    """Times that cores were slowed for heat in between."""
    clock_mhz_before: list[int] | None
    clock_mhz_after: list[int] | None


class BenchRecord(Part):
    """One model at one length in one session."""

    schema_version: int = Field(alias="schema")
    session: str
    role: Role
    group: int
    """Number of the group whose cells took turns; -1 where the cell never came to be timed."""
    model: str
    family: str
    options: dict[str, Any]
    changed_options: dict[str, Any]
    """Those that differ from the card's defaults."""
    length: int
    batch_size: int
    compiled: bool
    status: Status
    reason: str | None
    backend: str
    """compiled, fused (a fused attention kernel ran) or eager; empty where nothing ran."""
    kernels: list[str]
    """Fused attention kernels that the forward pass called."""
    parameters: ParameterCount
    parameter_ratio: float | None
    """Without embeddings, relative to the Transformer's at the same length."""
    predicted_bytes: int | None
    """What the closed form of the card predicts for the peak, before anything ran."""
    flops: FlopsPart | None
    peak_memory: PeakMemoryPart | None
    step_time: StepTimePart | None
    turns: Turns | None
    """None for the reference itself."""
    flops_per_s: float | None
    """Counted FLOPs of a step over its median time."""
    machine: MachineState | None

    model_config = ConfigDict(populate_by_name=True)

    @property
    def key(self) -> tuple[str, int, bool]:
        """Model with its changed options as one would write them, length, compiled."""
        return self.label, self.length, self.compiled

    @property
    def label(self) -> str:
        """'linformer', or 'linformer (rank=64)' with changed options."""
        return model_label(self.model, self.changed_options)


class SessionRecord(Part):
    """What is the same for every cell of a session: nothing of it can differ between models."""

    schema_version: int = Field(alias="schema")
    session: str
    plan_sha256: str
    protocol: str
    protocol_sha256: str
    overrides: dict[str, Any]
    settings: Settings
    device: str
    """Slug: names model, count and memory."""
    precision: Literal["fp32", "bf16"]
    mode: StepMode
    """train: forward, backward, clipping and update; forward: inference."""
    batch_size: int
    lengths: list[int]
    models: list[str]
    compiled: list[bool]
    """[False] eager, [True] compiled, [False, True] both."""
    padded: bool
    """False: every token is real and no mask is given. True: lengths from half to full, with masks."""
    checkpointing: Literal["none"] = "none"
    cell_seconds: float
    timeout_s: float
    group_size: int
    processes: int = 1
    """How many, one after another, each cell was timed in."""
    environment: dict[str, Any]
    provenance: dict[str, Any]
    wall_s: float | None
    """Of the whole command, over all its runs; None until it is complete."""

    model_config = ConfigDict(populate_by_name=True)

    @property
    def complete(self) -> bool:
        return self.wall_s is not None


class Session(Part):
    """A session with its cells, as read from a folder."""

    record: SessionRecord
    cells: list[BenchRecord]
    folder: Path

    def find(self, label: str, length: int, compiled: bool) -> BenchRecord | None:
        """The cell with this key; for the reference that of the first group."""
        found = [cell for cell in self.cells if cell.key == (label, length, compiled)]
        return min(found, key=lambda cell: (cell.role != "cell", cell.group), default=None)

    @property
    def labels(self) -> list[str]:
        """Models in the order of the plan."""
        order = {name: place for place, name in enumerate(self.record.models)}
        found = dict.fromkeys(cell.label for cell in self.cells)
        by_label = {cell.label: cell.model for cell in self.cells}
        return sorted(found, key=lambda label: order.get(by_label[label], len(order)))


def write_session(folder: Path, record: SessionRecord) -> None:
    write_atomically(folder / "session.json", record_text(record))


def write_cell(path: Path, record: BenchRecord) -> None:
    write_atomically(path, record_text(record))


def read_session(folder: Path) -> Session:
    """A session's folder, whole or in progress.

    Raises:
        DataError: a file is damaged, of another schema or has unknown keys; the message names it.
    """
    record = read_session_record(folder / "session.json")
    cells = [read_cell(path) for path in sorted((folder / "cells").glob("*.json"))]
    return Session(record=record, cells=cells, folder=folder)


def read_session_record(path: Path) -> SessionRecord:
    """What is the same for all cells; errors as for `read_session`."""
    return read_part(path, SessionRecord, _check_schema)


def read_cell(path: Path) -> BenchRecord:
    """One cell; errors as for `read_session`."""
    return read_part(path, BenchRecord, _check_schema)


def session_folders(results: Path, pattern: str = "*/*") -> Iterator[Path]:
    """Folders of sessions below a results folder, oldest first; `pattern` is of device and session."""
    found = (results / "bench").glob(f"{pattern}/session.json")
    yield from sorted((path.parent for path in found), key=lambda folder: (folder.name, folder))


def load_sessions(results: str | Path = "results") -> list[Session]:
    """All sessions below a results folder, oldest first. Raises DataError for damaged ones."""
    return [read_session(folder) for folder in session_folders(Path(results))]


def newest_of_each_plan(sessions: Sequence[Session]) -> list[Session]:
    """Without those that were taken again, in the order of their plans' first ones."""
    found: dict[str, Session] = {}
    for session in sessions:
        known = found.get(session.record.plan_sha256)
        if known is None or session.record.session > known.record.session:
            found[session.record.plan_sha256] = session
    return list(found.values())


def find_session(results: Path, name: str) -> Session:
    """By id or by the beginning of one.

    Raises:
        UsageError: none or several begin like that.
    """
    found = list(session_folders(results, f"*/{glob.escape(name)}*"))
    if len(found) != 1:
        known = ", ".join(folder.name for folder in session_folders(results)) or "none"
        raise UsageError(f"{len(found)} sessions in {results} begin with {name!r}. There are: {known}.")
    return read_session(found[0])


def _check_schema(content: Any) -> Any:
    version = content.get("schema") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise DataError(f"schema {version!r} is not known to this version, which reads schema {SCHEMA}")
    return content
