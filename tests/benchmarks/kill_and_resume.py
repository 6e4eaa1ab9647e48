"""Kills a real cell with SIGKILL in every phase, lets it continue, and compares with an undisturbed run.

    PYTHONPATH=tests python tests/benchmarks/kill_and_resume.py [--model linformer] [--task listops]

Everything in the two records but times, load and process size has to be identical.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from killing import CHECKPOINT, kill_at, lasting

from lra_bench.record_store import load_records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="linformer")
    parser.add_argument("--task", default="listops")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    moments = [
        "preparing train",
        "Measuring peak memory",
        "Measuring step time",
        "Training",
        CHECKPOINT,
        "training 100 of",
        CHECKPOINT,
        "Scoring",
    ]
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole", Path(folder) / "parts"

        def command(results: Path) -> list[str]:
            names = ["--model", given.model, "--task", given.task, "--steps", str(given.steps)]
            rest = ["--set", "budget.evaluate_every=100", "--no-controls", "--results", str(results)]
            return [sys.executable, "-P", "-m", "lra_bench", "run", *names, *rest]

        subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        often = {**os.environ, "LRA_BENCH_CHECKPOINT_S": "0"}
        for moment in moments:
            reached = kill_at(moment, command(parts), often, parts)
            half = len(list(parts.rglob(".checkpoint.pt.*")))
            print(
                f"killed at: {moment}: {'yes' if reached else 'ended before'}; half checkpoints left: {half}"
            )
        subprocess.run(command(parts), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        first, second = (lasting(load_records(results)[0]) for results in (whole, parts))
    different = [key for key in first if first[key] != second[key]]
    print(f"fields that differ: {different or 'none'}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
