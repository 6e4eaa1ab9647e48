"""A sweep through everything that can go wrong, compared with an undisturbed one.

    PYTHONPATH=tests python tests/benchmarks/sweep_survival.py [--seeds 3] [--steps 60] [--toys]

Two sweeps work on one folder. Meanwhile workers are killed with SIGKILL at random, one sweep is killed and
started again, the other is interrupted and started again, a finished record is cut short, and the disk is
full for a while (a small tmpfs, mounted where the user is root). Counted are cells lost, finished cells that
were run again, records damaged, and differences from the undisturbed sweep other than times.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import write_protocol
from killing import children_of, lasting

from lra_bench.errors import DataError
from lra_bench.record_store import load_records, read_predictions, record_files
from lra_bench.records import RunRecord
from lra_bench.report.terminal import console, print_rows

DISK_MIB = 96
FULL_FOR_S = 15.0
LOOK_EVERY_S = 0.03
MODELS, TASKS = "transformer,linformer,local,fnet", "recall,listops"


class Witness(threading.Thread):
    """Sees every version of every record that ever stands under its final name."""

    def __init__(self, results: Path) -> None:
        super().__init__(daemon=True)
        self.results = results
        self.versions: dict[Path, set[tuple[int, int]]] = {}
        self.ours: dict[Path, int] = {}
        """Versions that we made ourselves, by damaging a record."""
        self.ended = threading.Event()
        self.lock = threading.Lock()

    def run(self) -> None:
        while not self.ended.wait(LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        with self.lock:
            for path in record_files(self.results):
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    self.versions.setdefault(path, set()).add((found.st_ino, found.st_mtime_ns))

    def damage(self, path: Path) -> None:
        with self.lock:
            whole = path.stat()
            self.versions.setdefault(path, set()).add((whole.st_ino, whole.st_mtime_ns))
            with path.open("r+b") as file:
                file.truncate(whole.st_size // 2)
            cut = path.stat()
            self.versions[path].add((cut.st_ino, cut.st_mtime_ns))
            self.ours[path] = 2  # the cut one, and the one that replaces it

    @property
    def finished(self) -> int:
        return len(self.versions)

    @property
    def repeated(self) -> int:
        return sum(len(seen) - 1 - self.ours.get(path, 0) for path, seen in self.versions.items())


class SweepProcess:
    """One `lra-bench sweep`, which can be killed and started again."""

    def __init__(self, results: Path, given: argparse.Namespace, log: Path) -> None:
        changes: dict[str, object] = {
            "budget.steps": given.steps,
            "budget.evaluate_every": max(given.steps // 3, 1),
        }
        if given.toys:
            names = ["--models", "toy:Mean,toy:Plain", "--tasks", "toy:Evens"]
            names += ["--protocol", str(write_protocol(log.parent))]
            changes |= {"model.gain": "1,2,3,4,5,6,7"}
        else:
            names = ["--models", MODELS, "--tasks", TASKS]
            changes |= {
                "data.train_examples": 2048,
                "evaluation.test_examples": 256,
                "evaluation.validation_examples": 64,
                "evaluation.train_examples": 64,
            }
        self.command = [sys.executable, "-P", "-m", "lra_bench", "sweep", *names]
        self.command += ["--seeds", str(given.seeds), "--metrics", "accuracy,flops", "--device", "cpu"]
        self.command += ["--workers", "2", "--threads", "1", "--results", str(results)]
        for key, value in changes.items():
            self.command += ["--set", f"{key}={value}"]
        self.log = log
        self.codes: list[int] = []
        self.start()
        atexit.register(self.abandon)

    def start(self) -> None:
        environment = {**os.environ, "LRA_BENCH_CHECKPOINT_S": "0.5"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def end(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        self.codes.append(self.process.wait())

    def abandon(self) -> None:
        """Where this script itself is ended."""
        if self.is_running:
            self.end(signal.SIGINT)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs on the folder, where that can be had."""
    options = f"size={DISK_MIB}m"
    mounted = os.name == "posix" and os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Writes until there is no room."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**14))
    return path


def disturb(
    given: argparse.Namespace, results: Path, logs: Path, disk: bool
) -> tuple[dict[str, object], Witness]:
    """Runs two sweeps to their end through everything."""
    chance = random.Random(given.seed)
    witness = Witness(results)
    witness.start()
    sweeps = [SweepProcess(results, given, logs / f"sweep{number}.log") for number in (1, 2)]
    total = given.cells
    killed, full_s, restarts = 0, 0.0, 0
    todo = [
        (0.15, "kill sweep 1"),
        (0.3, "cut a record"),
        (0.4, "fill the disk"),
        (0.6, "interrupt sweep 2"),
        (0.7, "kill sweep 1"),
    ]
    next_kill = time.monotonic() + given.kill_every
    filler: Path | None = None
    filled_at = 0.0
    while any(sweep.is_running for sweep in sweeps) or filler is not None:
        time.sleep(0.05)
        now = time.monotonic()
        if now > next_kill:
            next_kill = now + chance.uniform(0.5, 1.5) * given.kill_every
            workers = [pid for sweep in sweeps if sweep.is_running for pid in children_of(sweep.process.pid)]
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    killed += 1
        if filler is not None and now - filled_at > FULL_FOR_S:
            filler.unlink()
            full_s, filler = now - filled_at, None
        if todo and witness.finished >= todo[0][0] * total:
            what = todo.pop(0)[1]
            print(f"{witness.finished} of {total} records: {what}", flush=True)
            if what == "cut a record":
                witness.damage(chance.choice(sorted(witness.versions)))
            elif what == "fill the disk" and disk:
                filler, filled_at = fill(results), now
            elif what != "fill the disk":
                sweep = sweeps[0] if what.endswith("1") else sweeps[1]
                sweep.end(signal.SIGINT if what.startswith("interrupt") else signal.SIGKILL)
                sweep.start()
                restarts += 1
    sweeps[0].codes.append(sweeps[0].process.wait())
    sweeps[1].codes.append(sweeps[1].process.wait())
    last = SweepProcess(results, given, logs / "last.log")  # finds nothing to do, or what was given up
    last.codes.append(last.process.wait())
    witness.ended.set()
    witness.join()
    witness.look()
    done = {
        "workers killed": killed,
        "sweeps killed or interrupted, and started again": restarts,
        "records cut short": len(witness.ours),
        "disk full for": f"{full_s:.0f} s" if disk else "skipped: no tmpfs can be mounted here",
        "disturbances that did not come to pass": ", ".join(what for _, what in todo) or "none",
        "exit codes": f"{sweeps[0].codes}, {sweeps[1].codes}, at the end {last.codes}",
    }
    return done, witness


def compare(whole: Path, parts: Path) -> dict[str, object]:
    """What the disturbed folder lacks or has otherwise."""
    faults: list[DataError] = []
    places: dict[str, Path] = {}
    other_places: dict[str, Path] = {}
    expected = {record.run_id: record for record in load_records(whole, paths=places)}
    found = {record.run_id: record for record in load_records(parts, faults=faults, paths=other_places)}
    shared = expected.keys() & found.keys()
    differing = [run for run in shared if lasting(expected[run]) != lasting(found[run])]
    unlike = [run for run in shared if not _same_predictions(expected[run], places[run], other_places[run])]
    known = {".json", ".npz"}
    files = [path for path in parts.rglob("*") if path.is_file()]
    return {
        "cells": len(expected),
        "cells lost": len(expected.keys() - found.keys()),
        "cells too many": len(found.keys() - expected.keys()),
        "records damaged": len(faults),
        "records that differ other than in times": len(differing),
        "predictions that differ": len(unlike),
        "files left behind": sum(path.suffix not in known and ".damaged-" not in path.name for path in files),
    }


def _same_predictions(record: RunRecord, one: Path, other: Path) -> bool:
    if record.accuracy is None:
        return True
    both = [read_predictions(path.with_name(record.accuracy.predictions_file)) for path in (one, other)]
    return all(np.array_equal(both[0][name], both[1][name]) for name in both[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toys", action="store_true", help="models of the tests: seconds a cell")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--kill-every", type=float, help="seconds; by default what two cells take")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the disk is unmounted
    with tempfile.TemporaryDirectory() as folder:
        whole, parts, logs = (Path(folder) / name for name in ("whole", "parts", "logs"))
        for path in (whole, parts, logs):
            path.mkdir()
        started = time.monotonic()
        undisturbed = SweepProcess(whole, given, logs / "undisturbed.log")
        undisturbed.codes.append(undisturbed.process.wait())
        whole_s = time.monotonic() - started
        given.cells = len(load_records(whole))
        print(
            f"undisturbed: {given.cells} cells in {whole_s:.0f} s, exit code {undisturbed.codes}", flush=True
        )
        given.kill_every = given.kill_every or 2 * whole_s / given.cells
        with small_disk(parts) as disk:
            started = time.monotonic()
            done, witness = disturb(given, parts, logs, disk)
            took = {"seconds": f"{time.monotonic() - started:.0f} (undisturbed, one sweep: {whole_s:.0f})"}
            found = compare(whole, parts)
        found["finished cells run again"] = witness.repeated
        waits = sum(path.read_text().count("Cannot write") for path in logs.iterdir())
        done["times that something waited for the disk"] = waits
        for path in sorted(logs.iterdir()):
            print(f"--- {path.name}, its end\n{''.join(path.read_text().splitlines(keepends=True)[-8:])}")
    print_rows(console(), [{"what": name, "": value} for name, value in {**done, **took, **found}.items()])
    bad = [name for name, value in found.items() if name != "cells" and value]
    return 1 if bad or undisturbed.codes != [0] else 0


if __name__ == "__main__":
    sys.exit(main())
