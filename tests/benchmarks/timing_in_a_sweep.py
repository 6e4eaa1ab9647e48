"""Step time of a cell measured alone, and beside three others that train, with and without the device lock.

    python tests/benchmarks/timing_in_a_sweep.py [--model transformer] [--task listops] [--others 3]

A round measures the same cell alone, beside others that make way, and beside others that know nothing of it
(their locks are in another folder). All are `lra-bench run` with one thread for training each, as in a sweep.
Prints every median step time and the ratios to the round's own, how long the cell waited for its turn, and
how many cores the three kept busy while it was timed: with the lock none, whatever else loads the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lra_bench.cell import resolve_cell
from lra_bench.device_lock import FOLDER_VARIABLE
from lra_bench.job import Job
from lra_bench.launch.local import run_job

ENDLESS = 1_000_000
"""Steps of those that train beside: they are stopped."""
START_S = 600.0
"""Until all of them train, at the latest."""


class Others:
    """Cells that train for as long as the context lasts."""

    def __init__(self, cell: Any, count: int, results: Path, locks: Path) -> None:
        self.processes = []
        self.training = threading.Semaphore(0)
        for number in range(count):
            job = Job(cell, results / f"other-{number}", threads=1)
            environment = {**os.environ, FOLDER_VARIABLE: str(locks), "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lra_bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(job.to_json()))
            process.stdin.close()
            self.processes.append(process)
            threading.Thread(target=self._follow, args=(process,), daemon=True).start()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        started = False
        for line in process.stdout:
            if not started and '"event": "step"' in line:
                started = True
                self.training.release()

    def wait(self) -> None:
        for _ in self.processes:
            if not self.training.acquire(timeout=START_S):
                raise SystemExit("The cells beside did not start to train.")

    def processor_s(self) -> float:
        """Processor seconds that they have used so far (Linux)."""
        ticks = 0
        for process in self.processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # user and system
        return ticks / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


@contextlib.contextmanager
def training(cell: Any, count: int, locks: Path) -> Iterator[Others]:
    with tempfile.TemporaryDirectory() as folder:
        others = Others(cell, count, Path(folder), locks)
        try:
            others.wait()
            yield others
        finally:
            others.end()


@dataclass
class Measured:
    step_s: float = math.nan
    waited_s: float = 0.0
    """For the device."""
    busy_cores: float = 0.0
    """Kept busy by the others while it was timed."""
    environment: Mapping[str, Any] = field(default_factory=dict)


def measure(cell: Any, others: Others | None = None) -> Measured:
    found = Measured()
    marks: dict[str, tuple[float, float]] = {}

    def on_event(event: Mapping[str, Any]) -> None:
        name = str(event.get("phase", event["event"]))
        marks[name] = (time.monotonic(), others.processor_s() if others else 0.0)

    with tempfile.TemporaryDirectory() as folder:
        record = run_job(Job(cell, Path(folder), threads=1), on_event)
    assert record.step_time is not None, record.reason
    start, end = marks["time"], marks["measured"]
    found.busy_cores = (end[1] - start[1]) / (end[0] - start[0])
    if "wait for the device" in marks:
        found.waited_s = start[0] - marks["wait for the device"][0]
    found.step_s, found.environment = record.step_time.median_s, record.environment
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="transformer")
    parser.add_argument("--task", default="listops")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--others", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    changes = {} if given.batch_size is None else {"budget.batch_size": given.batch_size}
    measured = resolve_cell(
        given.model, given.task, device=given.device, metrics=("time",), assignments=changes
    )
    endless = {
        "budget.steps": ENDLESS,
        "budget.evaluate_every": ENDLESS,
        "evaluation.validation_examples": 1,
        **changes,
    }
    beside = resolve_cell(
        given.model, given.task, device=given.device, metrics=("accuracy",), assignments=endless
    )
    ratios: dict[str, list[float]] = {"with the lock": [], "without": []}
    with tempfile.TemporaryDirectory() as folder:
        own, foreign = Path(folder) / "own", Path(folder) / "foreign"
        os.environ[FOLDER_VARIABLE] = str(own)
        for number in range(given.rounds):
            alone = measure(measured)
            print(f"round {number + 1}: alone {alone.step_s * 1e3:.2f} ms a step", flush=True)
            for name, locks in (("with the lock", own), ("without", foreign)):
                with training(beside, given.others, locks) as others:
                    found = measure(measured, others)
                ratio = found.step_s / alone.step_s
                ratios[name].append(ratio)
                print(
                    f"  beside {given.others} {name}: {found.step_s * 1e3:.2f} ms, ratio {ratio:.2f}; "
                    f"the others kept {found.busy_cores:.2f} cores busy; waited {found.waited_s:.2f} s",
                    flush=True,
                )
    threads = alone.environment["threads"], alone.environment["timing_threads"]
    print(f"threads: {threads[0]} to train, {threads[1]} to time")
    for name, found in ratios.items():
        print(f"beside {given.others}, {name}: {statistics.median(found):.2f} times the step time alone")


if __name__ == "__main__":
    main()
