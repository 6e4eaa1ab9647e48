"""The child process of a cell: signals, the lock on its folder, a limit on its memory.

Reads a job (`job.Job`) as JSON from standard input and sends events, a JSON object a line, to
standard output. Exit codes are those of the command line.
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

from lra_bench.cell import Cell
from lra_bench.errors import CrowdedError, DataError, LraBenchError, StorageError, UsageError
from lra_bench.files import TEMPORARY_SUFFIX, is_no_room, unwritable
from lra_bench.job import Job
from lra_bench.locks import held
from lra_bench.measure.environment import device_slug
from lra_bench.measure.machine import available_cores
from lra_bench.memory_limit import limit_memory
from lra_bench.phases import CellRun
from lra_bench.train import StoppedError

REPORTED: tuple[type[LraBenchError], ...] = (StorageError, DataError, UsageError, CrowdedError)
"""Kinds of failure that the parent has to tell apart; of several that fit, the first."""


@contextlib.contextmanager
def locked(folder: Path, emit: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Holds the cell, so that two processes don't write one checkpoint. Waits for the other to finish."""
    lock = folder.parent / f".{folder.stem}.lock"
    with held(lock, on_wait=lambda: emit({"event": "phase", "phase": "wait"})):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):  # of a run that was killed while writing
            leftover.unlink(missing_ok=True)
        yield


def _check_device(cell: Cell) -> None:
    """A record lies under its cell's kind of device; on a cluster, this machine may be of another."""
    here = device_slug(cell.device)
    if here != cell.device_slug:
        raise UsageError(
            f"This machine is {here}, and the cell is for {cell.device_slug}. Keep a sweep to machines of "
            "one kind: with `constraint` or `partition` on SLURM, with `resources` on Ray."
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

    def emit(event: Mapping[str, Any]) -> None:
        nonlocal stop
        try:
            events.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            stop = True  # The parent is gone: save and leave.

    try:
        job = Job.from_json(json.load(sys.stdin))
        device = torch.device(job.cell.device)
        _check_device(job.cell)
        limit_memory(device, job.memory_limit_bytes)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(available_cores())
        with locked(job.cell.partial_folder(job.results), emit):
            if job.finished() is None:
                CellRun(job, emit, lambda: stop).run()
    except StoppedError as error:
        return error.exit_code
    except (LraBenchError, OSError) as raised:
        if isinstance(raised, LraBenchError):
            failure = raised
        elif is_no_room(raised):
            failure = unwritable(raised.filename or job.results, raised)
        else:
            raise
        kinds = [kind.__name__ for kind in REPORTED if isinstance(failure, kind)]
        emit({"event": "failure", "message": str(failure), "kind": kinds[0] if kinds else ""})
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
