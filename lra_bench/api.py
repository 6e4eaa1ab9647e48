"""The Python entry points behind the command line: run a cell, load a model."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench import protocol as protocols
from lra_bench import registry
from lra_bench.cell import METRICS, Cell, resolve_cell
from lra_bench.distributed import started_by_torchrun
from lra_bench.errors import LraBenchError
from lra_bench.job import Job
from lra_bench.launch.controls import control_cells, level_of, needs_controls, no_score
from lra_bench.launch.local import Event, InterruptedRunError, run_job
from lra_bench.launch.processes import check_processes
from lra_bench.measure.environment import command_line
from lra_bench.protocol import Protocol
from lra_bench.records import ControlLevel, RunRecord

if TYPE_CHECKING:
    from torch import nn


def run(
    model: str,
    task: str,
    *,
    protocol: str | Protocol = "quick",
    device: str = "auto",
    seed: int = 0,
    precision: str = "fp32",
    compiled: bool = False,
    metrics: Sequence[str] = METRICS,
    settings: Mapping[str, Any] | None = None,
    length: int | None = None,
    results: str | Path = "results",
    overwrite: bool = False,
    controls: bool = True,
    processes: int = 1,
    on_event: Callable[[Event], None] = lambda _: None,
) -> RunRecord:
    """Trains and measures one cell in a process of its own and returns its record.

    A finished cell is returned as it is, unless `overwrite`; an interrupted one continues. The
    task's controls are run first where they are missing, so that the record can say what it beats.

    Args:
        settings: dotted keys, for example {"model.rank": 64, "budget.steps": 100}.
        results: folder for records; runs/<device>/<protocol>/<task>/<model>/<run-id>.json below it.
        processes: that share every batch, on this machine; the result is that of one. Controls run in one.
        on_event: gets progress events, dictionaries with the key `event`.

    Raises:
        UsageError: something named or set can't be. DataError: data missing or wrong.
        CellFailedError: the worker died. InterruptedRunError: stopped by a signal.
    """
    loaded = protocols.load(protocol) if isinstance(protocol, str) else protocol
    cell = resolve_cell(
        model,
        task,
        protocol=loaded,
        device=device,
        seed=seed,
        precision=precision,
        compiled=compiled,
        metrics=metrics,
        assignments=settings,
        length=length,
    )
    return run_with_controls(
        cell,
        loaded,
        Path(results),
        overwrite=overwrite,
        controls=controls,
        processes=processes,
        on_event=on_event,
    )


def run_with_controls(
    cell: Cell,
    protocol: Protocol,
    results: Path,
    *,
    overwrite: bool = False,
    controls: bool = True,
    processes: int = 1,
    on_event: Callable[[Event], None] = lambda _: None,
) -> RunRecord:
    """A resolved cell to its record, after the controls that its score has to stand beside; see `run`."""
    check_processes(cell, processes)
    levels: list[ControlLevel] = []
    if controls and needs_controls(cell) and (overwrite or Job(cell, results).finished() is None):
        levels = control_levels(control_cells(cell, protocol), results, on_event)
    return run_cell(
        cell, results, overwrite=overwrite, controls=levels, processes=processes, on_event=on_event
    )


def control_levels(
    cells: Sequence[Cell], results: Path, on_event: Callable[[Event], None]
) -> list[ControlLevel]:
    """Scores of the controls, run where they are missing. One that fails is left out, with an event."""
    found = []
    for cell in cells:
        try:
            record = run_cell(cell, results, on_event=on_event)
        except InterruptedRunError:
            raise
        except LraBenchError as error:
            on_event({"event": "warning", "message": f"The control {cell.model} failed: {error}"})
            continue
        level = level_of(record)
        if level is None:
            on_event(no_score(cell.model, record))
        else:
            found.append(level)
    return found


def run_cell(
    cell: Cell,
    results: Path,
    *,
    overwrite: bool = False,
    controls: Sequence[ControlLevel] = (),
    processes: int = 1,
    on_event: Callable[[Event], None] = lambda _: None,
) -> RunRecord:
    """A resolved cell to its record; see `run`."""
    job = Job(cell, results, tuple(controls), command_line(), processes=processes)
    if overwrite:
        forget(cell, results)
    record = job.finished()
    on_event({"event": "cell", "cell": cell, "finished": record is not None})
    if record is not None and not (processes > 1 and started_by_torchrun()):
        return record
    return run_job(job, on_event)  # of a finished cell the processes beside this one have to be told, too


def forget(cell: Cell, results: Path) -> None:
    """Removes a cell's record, predictions and checkpoint."""
    path = cell.record_path(results)
    for leftover in (path, path.with_suffix(".npz")):
        with contextlib.suppress(FileNotFoundError):
            leftover.unlink()
    shutil.rmtree(cell.partial_folder(results), ignore_errors=True)


def load_model(
    name: str, task: str = "pathfinder", *, protocol: str | Protocol = "lite", **options: Any
) -> nn.Module:
    """The classifier that a cell trains: `name` with `options`, in the protocol's network for `task`.

    Called with (input_ids, mask), or with four arguments for paired tasks, it gives class logits.
    """
    from lra_bench.building import build_model

    settings = {f"model.{key}": value for key, value in options.items()}
    cell = resolve_cell(name, task, protocol=protocol, device="cpu", assignments=settings)
    entry = registry.models.get(name)
    return build_model(entry, cell.model_options, cell.settings.architecture, cell.build_task().spec)
