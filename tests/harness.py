"""Shared by the tests of the harness: a toy cell resolved, and a worker run in this process."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from toy import PROTOCOL

from lra_bench.cell import Cell, resolve_cell
from lra_bench.job import Job
from lra_bench.phases import CellRun
from lra_bench.protocol import Protocol, merge, nest
from lra_bench.records import ControlLevel, RunRecord


def toy_protocol(**changes: Any) -> Protocol:
    """The toy protocol; changes as budget__steps=3."""
    content = copy.deepcopy(PROTOCOL)
    for key, value in changes.items():
        content["defaults"] = merge(content["defaults"], nest(key.replace("__", "."), value))
    return Protocol.model_validate(content)


def write_protocol(folder: Path, **changes: Any) -> Path:
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(toy_protocol(**changes).model_dump(mode="json")))
    return path


def toy_cell(
    model: str = "toy:Mean",
    *,
    protocol: Protocol | None = None,
    metrics: tuple[str, ...] = ("accuracy",),
    **arguments: Any,
) -> Cell:
    return resolve_cell(
        model, "toy:Evens", protocol=protocol or toy_protocol(), device="cpu", metrics=metrics, **arguments
    )


def work(
    cell: Cell,
    results: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    controls: tuple[ControlLevel, ...] = (),
    events: list[Mapping[str, Any]] | None = None,
) -> RunRecord:
    """Runs a cell in this process, as the child does."""
    torch.use_deterministic_algorithms(False)
    job = Job(cell, results, controls, "lra-bench run")
    return CellRun(job, (events if events is not None else []).append, should_stop).run()
