"""Small trainings that one process and several must take to the same end; run by `test_distributed.py`.

RANK=0 WORLD_SIZE=2 .. python parallel_cases.py FOLDER CASE...
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import toy_cell, toy_protocol
from test_token_labels import Echo
from toy import Evens

from lra_bench import registry
from lra_bench.building import build_model, resolve_model_options
from lra_bench.data.batches import BatchSource
from lra_bench.data.prepare import prepare
from lra_bench.distributed import Group, connect, leave
from lra_bench.evaluation import evaluate
from lra_bench.measure.timing import measure_step_time
from lra_bench.mixer import CONTRACT_ARGUMENTS
from lra_bench.step_metrics import StepMetrics
from lra_bench.train import StoppedError, Trainer

CPU = torch.device("cpu")
MEMORIES = {"segment_length": 8, "memory_length": 8, "compressed_length": 4, "compression_rate": 2}
CASES: Mapping[str, Mapping[str, Any]] = {
    # 15 examples for two processes, and gradients clipped hard
    "unequal parts": {"budget__batch_size": 15, "optimizer__gradient_clip_norm": 0.01},
    # as many labels in a row as it has odd tokens
    "token labels": {"task": Echo(), "model": "transformer", "budget__batch_size": 5},
    # a mean over tokens that not all rows have, in rows of 3 to 32 tokens
    "auxiliary loss": {"task": Evens(length=32), "model": "compressive", "options": MEMORIES},
    # no row is long enough for the compressor to learn
    "unused parameters": {"model": "compressive"},
}
STOP_AT = 6


class Case:
    def __init__(self, name: str, folder: Path, group: Group) -> None:
        changes = dict(CASES[name])
        self.group = group
        self.task = changes.pop("task", None) or Evens()
        self.entry = registry.models.get(changes.pop("model", "toy:Mean"))
        self.options = resolve_model_options(self.entry, changes.pop("options", {}), CONTRACT_ARGUMENTS)
        protocol = toy_protocol(architecture__dropout=0.0, **changes)
        self.settings = toy_cell(protocol=protocol).settings
        splits = {name: prepare(self.task, name, root=folder / "data") for name in ("train", "validation")}
        self.sources = {name: BatchSource(split, self.task.spec) for name, split in splits.items()}
        self.folder = folder / name.replace(" ", "-")

    def model(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return build_model(self.entry, self.options, self.settings.architecture, self.task.spec)

    def train(self, stop_at: int | None = None) -> dict[str, Any]:
        """To the end, or to a checkpoint; from the checkpoint if there is one."""
        losses: list[float] = []
        steps: list[int] = []

        def on_step(step: int, loss: float | None, _: object) -> None:
            losses.append(float(loss or 0.0))
            steps.append(step)

        trainer = Trainer(
            self.model(),
            self.settings,
            self.sources["train"],
            self.sources["validation"],
            device=CPU,
            seed=0,
            folder=self.folder,
            checkpoint_every_s=1e9,
            on_step=on_step,
            should_stop=lambda: steps[-1:] == [stop_at],
            group=self.group,
        )
        with contextlib.suppress(StoppedError):
            trainer.run()
        found = evaluate(
            trainer.best_model(),
            self.sources["validation"],
            batch_size=7,
            device=CPU,
            precision="fp32",
            group=self.group,
        )
        return {
            "losses": losses,
            "curve": [[p["step"], p["train_loss"], p["validation_loss"]] for p in trainer.progress.curve],
            "accuracy": [p["validation_accuracy"] for p in trainer.progress.curve],
            "predictions": found.predictions.tolist(),
            "labels": found.labels.tolist(),
            "loss": found.loss,
            "weights": torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).tolist(),
        }

    def measure(self) -> dict[str, Any]:
        """Bytes, and what the processes see of one another's times."""
        metrics = StepMetrics(
            self.model,
            lambda: self.sources["train"].batch(np.arange(self.settings.budget.batch_size)),
            self.settings,
            self.task.spec,
            device=CPU,
            session="",
            group=self.group,
        )
        timed = measure_step_time(
            metrics.stage().run,
            slowest=self.group.largest,
            min_steps=6,
            min_seconds=0.0,
            warm_up_min_seconds=0.0,
        )
        return {"memory": metrics.memory(), "time": timed.to_dict(), "flops": metrics.flops()}


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    group = connect()
    for name in names:
        if name == "measure":
            result: Any = Case("unequal parts", folder, group).measure()
        elif name == "exchange":
            result = exchange(group)
        else:
            what, _, stop_at = name.partition("@")
            result = Case(what, folder, group).train(int(stop_at) if stop_at else None)
        torch.save(group.gathered(result), folder / f"{name}-{group.rank}.pt")
    leave(group)
    # All is saved. Once in many runs the interpreter's end is aborted, silently; gloo is suspected.
    sys.stderr.flush()
    os._exit(0)


def exchange(group: Group) -> dict[str, Any]:
    """What each method gives this process."""
    return {
        "sum": group.sum(torch.tensor([1.0, group.rank])).tolist(),
        "mean": group.mean(torch.tensor([1.0, group.rank])).tolist(),
        "largest": group.largest([-group.rank, group.rank]),
        "numbers": group.numbers_of_first([group.rank + 0.5]),
        "of first": group.of_first({"rank": group.rank}),
        "gathered": group.gathered(group.rank),
    }


if __name__ == "__main__":
    main()
