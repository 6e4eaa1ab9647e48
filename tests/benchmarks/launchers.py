"""One sweep on every launcher: do the records agree, also when a worker is killed on the way?

    PYTHONPATH=tests python tests/benchmarks/launchers.py [--launchers local,ray,slurm] [--steps 400]

Six small cells: a toy model with two options and three seeds. `slurm` is submitit's local executor: its
jobs are processes of this machine. On Ray and there, one worker is killed with SIGKILL while it trains.
Everything in the records but times, load, process size and hosts has to be identical to that of the first
launcher.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from harness import write_protocol
from killing import lasting

from lra_bench.record_store import load_records

TESTS = Path(__file__).resolve().parents[1]
NEEDS = {"ray": "ray", "slurm": "submitit"}
KILLED = ("ray", "slurm")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launchers", default="local,ray,slurm")
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_args()
    wrong = False
    first: dict[str, Any] | None = None
    print(f"{'launcher':<10}{'wall_s':>8}{'exit':>6}{'killed':>8}{'lost':>6}{'records':>9}{'differ':>8}")
    for name in given.launchers.split(","):
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            print(f"{name:<10} skipped: {NEEDS[name]} is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results"
            plan = write_plan(Path(folder), given.steps)
            began = time.perf_counter()
            code, killed, told = sweep(plan, name, results, name in KILLED)
            wall_s = time.perf_counter() - began
            records = {record.run_id: lasting(record) for record in load_records(results)}
        first = first or records
        ids = first.keys() | records.keys()
        differ = [run_id for run_id in ids if first.get(run_id) != records.get(run_id)]
        lost = told.count(" is gone: ") + told.count("left no result")
        print(
            f"{name:<10}{wall_s:>8.1f}{code:>6}{killed:>8}{lost:>6}{len(records):>9}{len(differ):>8}",
            flush=True,
        )
        for run_id in differ:
            ours, theirs = first.get(run_id) or {}, records.get(run_id) or {}
            print(f"  {run_id}: {[key for key in ours | theirs if ours.get(key) != theirs.get(key)]}")
        if code or not records:
            print("\n".join(told.splitlines()[-15:]))
        wrong |= bool(code or differ or not records or (name in KILLED and not killed))
    return int(wrong)


def write_plan(folder: Path, steps: int) -> Path:
    plan = {
        "models": ["toy:Mean"],
        "tasks": ["toy:Evens"],
        "settings": {"model.gain": [1.0, 2.0]},
        "seeds": 3,
        "protocol": str(write_protocol(folder, budget__steps=steps, budget__evaluate_every=steps // 4)),
        "device": "cpu",
        "metrics": ["accuracy", "memory", "flops"],
        "workers": 2,
        "threads": 1,
        "slurm": {"executor": "local"},
        "ray": {"address": "local"},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def sweep(plan: Path, launcher: str, results: Path, with_kill: bool) -> tuple[int, int, str]:
    """Exit code, workers killed, and what the command said."""
    command = [sys.executable, "-P", "-m", "lra_bench", "sweep", str(plan), "--launcher", launcher]
    # Checkpoints all the time, so that there is one to continue from.
    environment = {**os.environ, "LRA_BENCH_CHECKPOINT_S": "0", "PYTHONPATH": str(TESTS)}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, "--results", str(results)], env=environment, stdout=said, stderr=said
        )
        killed = 0
        while process.poll() is None:
            if with_kill and not killed:
                killed = kill_one_that_trains(results)
            time.sleep(0.02)
        said.seek(0)
        return process.returncode, killed, said.read()


def kill_one_that_trains(results: Path) -> int:
    """Kills whoever holds the claim of a cell that has a checkpoint."""
    for checkpoint in results.rglob("*.partial/checkpoint.pt"):
        folder = checkpoint.parent
        claim = folder.with_name(f".{folder.stem}.claim")
        try:
            os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
