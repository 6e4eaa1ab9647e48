"""What SLURM and Ray call on the other machine. Plain JSON goes there and comes back; nothing of torch.

The work runs in a thread, so that the main thread hears signals while the cell's own process trains: a
signal, like the stop file, lets the cell save and end.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lra_bench.launch.launcher import Outcome, Work
from lra_bench.launch.stop_file import StopFileWatch

EXECUTE = "lra_bench.launch.execute:execute"
SAVING_S = 70.0
"""How long a cell may take to save and end: a little more than its own process is given."""
_HEAR_EVERY_S = 0.5
_DEBUG = "SUBMITIT_DEBUG_JOB_ID"
_STARTED = "lra-bench: start of"

Payload = dict[str, Any]


def payload(work: Work, stop_file: Path, target: str = EXECUTE, *, alone: bool = True) -> Payload:
    """What travels: the work with whole paths, and this process's own settings.

    target: `package.module:function` that is called as `execute` is.
    alone: whether no other cell is in the memory that this one will have.
    """
    device = work.cell.device.partition(":")[0]  # which of several is the cluster's to say
    work = replace(work, results=work.results.resolve(), cell=replace(work.cell, device=device))
    return {
        "work": work.to_json(),
        "stop_file": str(stop_file.resolve()),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("LRA_BENCH_")},
        "target": target,
        "alone": alone,
    }


def run_there(content: Payload) -> dict[str, str]:
    """Runs a payload; the outcome as JSON. For engines that take a function."""
    return RemoteCell()(content)


def device_there(name: str) -> tuple[str, str]:
    """("auto") -> ("cuda", its slug), as `cell.resolve_device` says it on that machine."""
    from lra_bench.cell import resolve_device

    return resolve_device(name)


def has_started(log: str, run_id: str) -> bool:
    """Whether the log of a job shows that it came as far as the cell."""
    return f"{_STARTED} {run_id}" in log


def last_line(error: Exception) -> str:
    """What a trace says, without the trace."""
    lines = [line for line in str(error).strip().splitlines() if line.strip("- ")]
    telling = [line for line in lines if "Error" in line or "error" in line]
    return (telling or lines or [type(error).__name__])[-1].strip()


class RemoteCell:
    """One cell as a submitit job: called with a payload; `checkpoint` is what submitit calls at preemption.

    Nothing of it travels but its name.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __reduce__(self) -> tuple[type[RemoteCell], tuple[()]]:
        return (RemoteCell, ())

    def __call__(self, content: Payload) -> dict[str, str]:
        for name, value in content["environment"].items():
            os.environ.setdefault(name, value)  # what that machine says of itself goes first
        work = Work.from_json(content["work"])
        run_id = work.cell.run_id
        print(f"{_STARTED} {run_id} on {socket.gethostname()}", file=sys.stderr, flush=True)
        ended: list[Outcome] = []
        self._thread = threading.Thread(
            target=lambda: ended.append(_execute(content, work, self._stop)),
            name=run_id,
            daemon=True,
        )
        stop_path = Path(content["stop_file"])
        with _signals(self._stop) as received, StopFileWatch(stop_path, self._stop):
            self._thread.start()
            try:
                while self._thread.is_alive():
                    self._thread.join(_HEAR_EVERY_S)
            except (OSError, subprocess.SubprocessError) as error:
                # submitit's signal handler works on top of this loop. It has saved, but on some clusters
                # nodes may not queue jobs: then whoever submitted has to.
                ended = [Outcome(run_id, "lost", f"Preempted; it has saved, but can't queue itself: {error}")]
        if received and _DEBUG in os.environ:
            signal.raise_signal(
                received[0]
            )  # this process is the sweep's own: its turn, now that all is saved
        outcome = ended[0] if ended else Outcome(run_id, "failed", "The cell ended without an outcome.")
        if outcome.state == "stopped" and received and not stop_path.exists():
            name = signal.Signals(received[0]).name
            outcome = Outcome(run_id, "lost", f"The job got {name} (preempted, or cancelled); it has saved.")
        print(f"lra-bench: {run_id} {outcome.state}. {outcome.message}", file=sys.stderr, flush=True)
        return asdict(outcome)

    def checkpoint(self, content: Payload) -> Any:
        """Preempted, or out of the job's time: lets the cell save; returns the same work to submit again."""
        from submitit.helpers import DelayedSubmission

        self._stop.set()
        if self._thread is not None:
            self._thread.join(SAVING_S)
        return DelayedSubmission(RemoteCell(), content)


def _execute(content: Payload, work: Work, stop: threading.Event) -> Outcome:
    try:
        module, _, name = content["target"].partition(":")
        function = getattr(importlib.import_module(module), name)
        outcome: Outcome = function(work, stop, _log, alone=content["alone"])
        return outcome
    except Exception as error:  # Whatever it is, it has to get home as an outcome.
        return Outcome(work.cell.run_id, "failed", f"{type(error).__name__}: {error}")


def _log(event: Mapping[str, Any]) -> None:
    """Into the job's log: phases, and what somebody should know."""
    if event["event"] == "phase":
        print(f"lra-bench: {event['phase']}", file=sys.stderr, flush=True)
    elif "message" in event:
        print(f"lra-bench: {event['event']}: {event['message']}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[list[int]]:
    """Meanwhile SIGTERM and SIGINT let the cell save. submitit ignores SIGTERM, which is all that many
    clusters send at preemption."""
    received: list[int] = []

    def hear(number: int, _frame: object) -> None:
        received.append(number)
        stop.set()

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            handlers[number] = signal.signal(number, hear)
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
