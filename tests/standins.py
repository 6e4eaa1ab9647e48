"""Stand-ins for `execute.execute` in tests of launchers: what a piece of work does is its `command`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lra_bench.launch.launcher import Outcome, Work

TARGET = "standins:act"
TESTS = Path(__file__).resolve().parent


def work(results: Path, seed: int, command: str, **changes: Any) -> Work:
    from harness import toy_cell  # late: the processes of launchers start sooner without it

    return Work(toy_cell(seed=seed), results, command=command, **changes)


def act(
    work: Work, stop: threading.Event, on_event: Callable[[Mapping[str, Any]], None], *, alone: bool = True
) -> Outcome:
    """Leaves `<run id>.began` (process, threads, device) and `<run id>.spans` (begin and end)."""
    run_id = work.cell.run_id
    began = time.time()
    on_event({"event": "phase", "phase": "acting"})
    (work.results / f"{run_id}.began").write_text(f"{os.getpid()} {work.threads} {work.cell.device}")
    what, _, seconds = work.command.partition(" ")
    try:
        if what == "raise":
            raise KeyError("a fault of its own")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "die-once" and not (work.results / f"{run_id}.died").exists():
            (work.results / f"{run_id}.died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "fail":
            return Outcome(run_id, "failed", "no such data")
        if what == "large" and not alone:
            return Outcome(run_id, "crowded", "out of memory beside others")
        if what == "elsewhere":
            return Outcome(run_id, "elsewhere")
        if what == "wait" and stop.wait(float(seconds)):
            (work.results / f"{run_id}.saved").touch()
            return Outcome(run_id, "stopped")
        return Outcome(run_id, "done")
    finally:
        (work.results / f"{run_id}.spans").write_text(f"{began} {time.time()}")


def most_at_once(results: Path) -> int:
    """Of pieces of work, by the times they left."""
    spans = [tuple(map(float, path.read_text().split())) for path in results.glob("*.spans")]
    return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
