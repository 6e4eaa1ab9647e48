"""The child process of a cell: signals, the lock on its folder, a limit on its memory.

Reads a job (`job.Job`) as JSON from standard input and sends events, a JSON object a line, to
standard output. Exit codes are those of the command line. Where torchrun starts several, the first one has
both ends; the others get the job from it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lra_bench.cell import Cell, sources_of
from lra_bench.distributed import Group, connect, leave, started_by_torchrun
from lra_bench.errors import (
    CellFailedError,
    CrowdedError,
    DataError,
    LraBenchError,
    StorageError,
    UsageError,
)
from lra_bench.files import TEMPORARY_SUFFIX, is_no_room, unwritable
from lra_bench.job import Job
from lra_bench.locks import held
from lra_bench.measure.environment import device_slug
from lra_bench.memory_limit import limit_memory
from lra_bench.phases import CellRun
from lra_bench.rank_failures import forget_failures
from lra_bench.threads import use_training_threads
from lra_bench.train import StoppedError

REPORTED: tuple[type[LraBenchError], ...] = (StorageError, DataError, UsageError, CrowdedError)
"""Kinds of failure that the parent has to tell apart; of several that fit, the first."""

Emit = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def locked(folder: Path, emit: Emit) -> Iterator[None]:
    """Holds the cell, so that two processes don't write one checkpoint. Waits for the other to finish."""
    lock = folder.parent / f".{folder.stem}.lock"
    with held(lock, on_wait=lambda: emit({"event": "phase", "phase": "wait"})):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):  # of a run that was killed while writing
            leftover.unlink(missing_ok=True)
        forget_failures(folder)
        yield


def _check_here(cell: Cell) -> None:
    """Raises UsageError unless the cell is what it would be if it were planned in this process."""
    _check_device(cell)
    _check_sources(cell)


def _check_device(cell: Cell) -> None:
    """A record lies under its cell's kind of device; on a cluster, this machine may be of another."""
    here = device_slug(cell.device)
    if here != cell.device_slug:
        raise UsageError(
            f"This machine is {here}, and the cell is for {cell.device_slug}. Keep a sweep to machines of "
            "one kind: with `constraint` or `partition` on SLURM, with `resources` on Ray."
        )


def _check_sources(cell: Cell) -> None:
    """Somebody may edit a model of their own while a sweep runs, or have two versions on two machines."""
    here = sources_of(cell.model_entry, cell.task_entry)
    for what, digest in cell.sources.items():
        if here.get(what) != digest:
            name = cell.model if what == "model" else cell.task
            raise UsageError(
                f"The code of {name} here is not what it was when the cell was planned. Give the command "
                "again: with other code it is a cell of its own."
            )


def main() -> int:
    """Entry point of the child process."""
    # What libraries print must not mix with events.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    stop = False

    def ask_to_stop(_number: int, _frame: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    parent = os.getppid()

    def emit(event: Mapping[str, Any]) -> None:
        nonlocal stop
        try:
            events.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            stop = True  # The parent is gone: save and leave.

    def should_stop() -> bool:
        return stop or os.getppid() != parent  # torchrun holds the pipe open without reading it

    group = connect()
    try:
        if not group.is_first:
            follow(group, should_stop)
        elif not run_first(group, emit, should_stop):
            return CellFailedError.exit_code
        leave(group)
    except StoppedError as error:
        return error.exit_code
    except LraBenchError as error:
        if group.is_first:
            kinds = [kind.__name__ for kind in REPORTED if isinstance(error, kind)]
            emit({"event": "failure", "message": str(error), "kind": kinds[0] if kinds else ""})
        else:
            logging.error("Process %d: %s", group.rank, error)
        return error.exit_code
    return 0


def run_first(group: Group, emit: Emit, should_stop: Callable[[], bool]) -> bool:
    """The process that was given the job: alone, or at the head of a group.

    False if the others of the group still wait for one that has failed: torchrun ends them when this one ends
    with an error. The record is written.
    """
    job = Job.from_json(json.load(sys.stdin))
    _check_here(job.cell)
    try:
        with locked(job.cell.partial_folder(job.results), emit):
            unfinished = job.finished() is None
            group.of_first(job.to_json() if unfinished else None)
            if unfinished:
                status = run_cell(job, group, emit, should_stop)
                return group.size == 1 or status not in ("oom", "error")
    except OSError as error:
        if is_no_room(error):
            raise unwritable(error.filename or job.results, error) from error
        raise
    return True


def follow(group: Group, should_stop: Callable[[], bool]) -> None:
    """Any other process of a group."""
    nothing_yet: Any = None
    content = group.of_first(nothing_yet)
    if content is not None:
        job = Job.from_json(content)
        _check_here(job.cell)
        run_cell(job, group, lambda _: None, should_stop)


def run_cell(job: Job, group: Group, emit: Emit, should_stop: Callable[[], bool]) -> str:
    """The cell in this process; the status of its record."""
    device = torch.device(group.device(job.cell.device))
    limit_memory(device, job.memory_limit_bytes, share=1 / group.local_size)
    use_training_threads(job.threads)
    return CellRun(job, emit, should_stop, group).run().status


if __name__ == "__main__":
    exit_code = main()
    if exit_code and started_by_torchrun():
        os._exit(exit_code)  # to end in order would be to wait for the others
    sys.exit(exit_code)
