"""One cell in one process and in several: loss of every step, validation, test score, seconds.

    python tests/benchmarks/data_parallel.py [--model transformer] [--task listops] [--processes 2]

Without dropout, whose streams are the processes' own, so that the losses should agree to rounding. The
seconds say what the exchange costs: on one CPU the processes divide its cores, and nothing is won.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.cell import resolve_cell
from lra_bench.job import Job
from lra_bench.launch.local import run_job
from lra_bench.launch.processes import check_processes
from lra_bench.record_store import read_predictions
from lra_bench.records import RunRecord


def train(cell: Any, processes: int, results: Path) -> tuple[dict[int, float], RunRecord, np.ndarray]:
    """Losses by step (as far as they were told), the record, and the test predictions."""
    losses: dict[int, float] = {}

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "step" and event["loss"] is not None:
            losses[event["step"]] = event["loss"]

    record = run_job(Job(cell, results, processes=processes), on_event)
    assert record.accuracy is not None, record.reason
    found = read_predictions(cell.record_path(results).with_name(record.accuracy.predictions_file))
    return losses, record, found["best"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="transformer")
    parser.add_argument("--task", default="listops")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=10, help="steps between evaluations")
    parser.add_argument("--examples", type=int, default=500, help="to validate, and to test")
    given = parser.parse_args()
    changes = {
        "budget.steps": given.steps,
        "budget.evaluate_every": given.every,
        "evaluation.validation_examples": given.examples,
        "evaluation.test_examples": given.examples,
        "architecture.dropout": 0.0,
        "architecture.attention_dropout": 0.0,
    }
    cell = resolve_cell(
        given.model, given.task, device=given.device, metrics=("accuracy",), assignments=changes
    )
    check_processes(cell, given.processes)
    counts = (1, given.processes)
    found = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            found[count] = train(cell, count, Path(folder))
    (one, first, best_one), (several, second, best_several) = (found[count] for count in counts)
    assert first.accuracy is not None
    assert second.accuracy is not None
    print(f"{given.model} on {given.task}, batch {cell.settings.budget.batch_size}, no dropout")
    print(f"{'step':>6} {'1 process':>12} {f'{given.processes} processes':>12} {'relative':>10}")
    for step in sorted(one.keys() & several.keys()):
        difference = abs(several[step] / one[step] - 1)
        print(f"{step:6} {one[step]:12.6f} {several[step]:12.6f} {difference:10.1e}")
    curves = zip(first.accuracy.curve, second.accuracy.curve, strict=True)
    print("validation loss, accuracy")
    for a, b in curves:
        print(
            f"{a.step:6} {a.validation_loss:12.6f} {b.validation_loss:12.6f} "
            f"{abs(b.validation_loss / a.validation_loss - 1):10.1e}   "
            f"{a.validation_accuracy:.4f} {b.validation_accuracy:.4f}"
        )
    scores = [record.accuracy.best.accuracy for record in (first, second) if record.accuracy]
    same = float((best_one == best_several).mean())
    print(f"test accuracy {scores[0]:.4f} and {scores[1]:.4f}; {same:.2%} of predictions are the same")
    print(
        f"training {first.accuracy.train_s:.1f} s and {second.accuracy.train_s:.1f} s, with "
        f"{first.environment['threads']} and {given.processes} x {second.environment['threads']} threads"
    )


if __name__ == "__main__":
    main()
