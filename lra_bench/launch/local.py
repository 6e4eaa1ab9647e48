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

from lra_bench.errors import (
    CellFailedError,
    CrowdedError,
    DataError,
    LraBenchError,
    StorageError,
    UsageError,
)
from lra_bench.job import Job
from lra_bench.launch.processes import worker_command, worker_environment
from lra_bench.launch.watch import STOP_GRACE_S, Watch
from lra_bench.record_store import read_record
from lra_bench.records import RunRecord, Status

Event = Mapping[str, Any]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_REPORTED: dict[str, type[LraBenchError]] = {
    kind.__name__: kind for kind in (CrowdedError, DataError, StorageError, UsageError)
}
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "allocate memory", "System unable to allocate")
"""What a process says that dies of a limit on its memory where no Python code could catch it."""


class InterruptedRunError(LraBenchError):
    """The user stopped the run; what there is was kept."""

    exit_code = 130


class WorkerDiedError(CellFailedError):
    """The child was ended by a signal and left no record; what it had saved is there."""


def run_job(
    job: Job,
    on_event: Callable[[Event], None] = lambda _: None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    time_limit_s: float | None = None,
) -> RunRecord:
    """Runs a cell to its record in a child process. May be called from any thread.

    Args:
        should_stop: asked now and then; True ends the run as SIGTERM does.
        time_limit_s: wall seconds of this attempt, waiting left out; then the cell ends as `timeout`.

    Raises:
        InterruptedRunError: stopped by SIGINT, SIGTERM or `should_stop`; the checkpoint is kept.
        WorkerDiedError: a signal ended the child. CellFailedError: it crashed. Neither leaves a record.
        DataError, StorageError, UsageError: as the child reported.
        CrowdedError: the job is not alone, and ran out of memory.
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
        with _signals_forwarded(child) as received, Watch(child, should_stop, time_limit_s) as watch:

            def follow(event: Event) -> None:
                watch.note(event)
                on_event(event)

            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(job.to_json()).encode())
                child.stdin.close()
            failure, recorded = _follow(child.stdout, follow)
            code = child.wait()
        child.stdout.close()
        if failure is not None:
            raise failure
        if code == 0 or recorded:
            return read_record(job.cell.record_path(job.results))
        if received or watch.stopped or code == InterruptedRunError.exit_code:
            raise InterruptedRunError(
                "Stopped. What was done is kept; the same command continues from there."
            )
        tail = _tail(log)
        killed = code == -signal.SIGKILL or job.processes > 1  # torchrun ends with a code of its own
        ended: tuple[Status, str] | None = None
        if watch.timed_out:
            ended = "timeout", f"the cell passed its limit of {time_limit_s:g} s of wall time"
        elif killed and oom_kills() > kills_before:
            if not job.alone:
                raise CrowdedError("the kernel ended the worker for memory while others ran beside it")
            ended = "oom", "the kernel ended the worker for using too much memory"
        elif job.memory_limit_bytes is not None and any(sign in tail for sign in _OUT_OF_MEMORY):
            ended = (
                "oom",
                f"the worker died at its limit of {job.memory_limit_bytes / 2**30:.3g} GiB of memory",
            )
        if ended is not None and job.ended is None:
            record_only = replace(job, ended=ended, memory_limit_bytes=None, processes=1)
            return run_job(record_only, on_event, should_stop=should_stop)
        raise _death(code, tail)


def _follow(stream: IO[bytes], on_event: Callable[[Event], None]) -> tuple[LraBenchError | None, bool]:
    """Passes events on until the child closes its end.

    Returns the error that the child reported, and whether it said that the record is written.
    """
    failure: LraBenchError | None = None
    recorded = False
    for line in stream:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut short by its death
        if event["event"] == "failure":
            failure = _REPORTED.get(event["kind"], CellFailedError)(event["message"])
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


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n  ".join(log.read().decode("utf-8", "replace").strip().splitlines()[-15:])


def _death(code: int, tail: str) -> CellFailedError:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    text = f"The worker {how} and left no record; the same command continues from its last checkpoint."
    return (WorkerDiedError if code < 0 else CellFailedError)(text + (f"\n  {tail}" if tail else ""))


def oom_kills() -> int:
    """How often the kernel has ended a process of this control group for memory; 0 where it doesn't say."""
    try:
        for line in (own_cgroup() / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return 0


def own_cgroup() -> Path:
    """The folder of this process's control group (version 2): batch systems make one for every job."""
    for line in _OWN_CGROUP.read_text().splitlines():
        if line.startswith("0::/"):
            own = _CGROUPS / line.removeprefix("0::/")
            return own if (own / "memory.events").exists() else _CGROUPS
    return _CGROUPS
