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

from lra_bench.errors import LraBenchError
from lra_bench.files import TEMPORARY_SUFFIX
from lra_bench.job import Job
from lra_bench.locks import held
from lra_bench.memory_limit import limit_memory
from lra_bench.phases import CellRun
from lra_bench.threads import use_training_threads
from lra_bench.train import StoppedError


@contextlib.contextmanager
def locked(folder: Path, emit: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Holds the cell, so that two processes don't write one checkpoint. Waits for the other to finish."""
    lock = folder.parent / f".{folder.stem}.lock"
    with held(lock, on_wait=lambda: emit({"event": "phase", "phase": "wait"})):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):  # of a run that was killed while writing
            leftover.unlink(missing_ok=True)
        yield


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
        limit_memory(device)
        use_training_threads(job.threads)
        with locked(job.cell.partial_folder(job.results), emit):
            if job.finished() is None:
                CellRun(job, emit, lambda: stop).run()
    except LraBenchError as error:
        if not isinstance(error, StoppedError):
            emit({"event": "failure", "message": str(error), "exit_code": error.exit_code})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
