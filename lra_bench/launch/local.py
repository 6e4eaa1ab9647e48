"""Runs one cell in a child process of its own on this machine.

The child sends events, a JSON object a line, on its standard output; what it prints goes to its
standard error, whose tail explains a crash. A child that dies leaves its checkpoint, so the same
command continues.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from lra_bench.errors import CellFailedError, DataError, LraBenchError, UsageError
from lra_bench.job import Job
from lra_bench.launch.processes import worker_command, worker_environment
from lra_bench.records import RunRecord, read_record

Event = Mapping[str, Any]

STOP_GRACE_S = 60.0
"""How long a child may take to write its checkpoint after it was asked to stop."""
_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")


class InterruptedRunError(LraBenchError):
    """The user stopped the run; what there is was kept."""

    exit_code = 130


def run_job(job: Job, on_event: Callable[[Event], None] = lambda _: None) -> RunRecord:
    """Runs a cell to its record in a child process.

    Raises:
        InterruptedRunError: stopped by SIGINT or SIGTERM; the checkpoint is kept.
        CellFailedError: the child died without a record (killed, crashed).
        DataError, UsageError: as the child reported.
    """
    kills_before = oom_kills()
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            worker_command(job),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=worker_environment(job),
            # A terminal's Ctrl-C reaches the whole group; the parent alone decides when to stop.
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with _signals_forwarded(child) as stopped:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(job.to_json()).encode())
                child.stdin.close()
            failure, recorded = _follow(child.stdout, on_event)
            code = child.wait()
        if failure is not None:
            raise failure
        if code == 0 or recorded:
            return read_record(job.cell.record_path(job.results))
        if stopped or code == InterruptedRunError.exit_code:
            raise InterruptedRunError(
                "Stopped. What was done is kept; the same command continues from there."
            )
        killed = code == -signal.SIGKILL or job.processes > 1  # torchrun ends with a code of its own
        if killed and oom_kills() > kills_before and not job.killed_for_memory:
            return run_job(replace(job, killed_for_memory=True, processes=1), on_event)
        raise CellFailedError(_explain_death(code, log))


def _follow(stream: IO[bytes], on_event: Callable[[Event], None]) -> tuple[LraBenchError | None, bool]:
    """Passes events on until the child closes its end.

    Returns the error that the child reported, and whether it said that the record is written.
    """
    failure: LraBenchError | None = None
    recorded = False
    for line in stream:
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if event["event"] == "failure":
                kind = {DataError.exit_code: DataError, UsageError.exit_code: UsageError}
                failure = kind.get(event["exit_code"], CellFailedError)(event["message"])
            else:
                recorded |= event["event"] == "recorded"
                on_event(event)
    return failure, recorded


@contextlib.contextmanager
def _signals_forwarded(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """While the child works, SIGINT and SIGTERM ask it to finish its step and save."""
    received: list[int] = []

    def forward(number: int, _frame: object) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            # The second time is meant.
            os.kill(child.pid, signal.SIGTERM if len(received) < 3 else signal.SIGKILL)

    handlers = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, forward)
    except ValueError:
        pass  # Not the main thread: the caller's handlers stay.
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _explain_death(code: int, log: IO[bytes]) -> str:
    log.seek(0)
    tail = log.read().decode("utf-8", "replace").strip().splitlines()[-15:]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = "\n  ".join(tail)
    return f"The worker {how} and left no record; the same command continues from its last checkpoint." + (
        f"\n  {lines}" if lines else ""
    )


def oom_kills() -> int:
    """How often the kernel has ended a process of this control group for memory; 0 where it doesn't say."""
    try:
        for line in _CGROUP_EVENTS.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return 0
