"""Training throughput of the harness against a bare PyTorch loop of the same model and batch.

    python tests/benchmarks/trainer_overhead.py [--task pathfinder] [--pairs 6] [--steps 12]

The two take turns, A B B A ..., in one process. The bare loop has its batch on the device already;
the harness gathers a new one for every step, sets the rate, keeps the loss, asks whether to stop, reports
progress and writes checkpoints. Prints the ratio harness / bare of throughput, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from lra_bench.building import build_model
from lra_bench.cell import resolve_cell
from lra_bench.data.batches import BatchSource
from lra_bench.data.prepare import prepare
from lra_bench.measure.machine import available_cores
from lra_bench.measure.timing import synchronise
from lra_bench.stats import interval_over_seeds
from lra_bench.train import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="transformer")
    parser.add_argument("--task", default="pathfinder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(available_cores())
    steps = given.steps + 2  # the first warms up; the last one evaluates
    cell = resolve_cell(
        given.model,
        given.task,
        device=given.device,
        assignments={"budget.steps": steps, "budget.evaluate_every": steps},
    )
    task, settings, device = cell.build_task(), cell.settings, torch.device(cell.device)
    train = BatchSource(prepare(task, "train", 4000), task.spec, padding=settings.data.padding)
    validation = BatchSource(prepare(task, "validation", 16), task.spec, padding=settings.data.padding)

    def build() -> nn.Module:
        torch.manual_seed(0)
        return build_model(cell.model_entry, cell.model_options, settings.architecture, task.spec).to(device)

    def harness() -> tuple[float, float]:
        marks = []

        def on_step(step: int, *_: object) -> None:
            if step in (1, steps - 1):
                synchronise(device)
                marks.append((time.perf_counter(), time.process_time()))

        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            Trainer(
                build(), settings, train, validation, device=device, seed=0, folder=place, on_step=on_step
            ).run()
        return marks[1][0] - marks[0][0], marks[1][1] - marks[0][1]

    def bare() -> tuple[float, float]:
        model = build().train()
        chosen = settings.optimizer
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-3, betas=chosen.betas, eps=chosen.epsilon,
            weight_decay=chosen.weight_decay, fused=True,
        )  # fmt: skip
        size = settings.budget.batch_size
        batches = [train.training_batch(size, 0, step).to(device) for step in range(steps)]
        start = (0.0, 0.0)
        for step, batch in enumerate(batches[: steps - 1]):
            F.cross_entropy(model(*batch.inputs), batch.labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), chosen.gradient_clip_norm or 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step == 0:
                synchronise(device)
                start = (time.perf_counter(), time.process_time())
        synchronise(device)
        return time.perf_counter() - start[0], time.process_time() - start[1]

    bare(), harness()  # whatever is slow only once
    wall, cpu = [], []
    for pair in range(given.pairs):
        order = (harness, bare) if pair % 2 else (bare, harness)
        taken = {run: run() for run in order}
        wall.append(taken[bare][0] / taken[harness][0])
        cpu.append(taken[bare][1] / taken[harness][1])
        print(
            f"pair {pair + 1}: bare {taken[bare][0]:.3f} s, harness {taken[harness][0]:.3f} s, "
            f"throughput ratio {wall[-1]:.3f} (CPU time {cpu[-1]:.3f})",
            flush=True,
        )
    for name, ratios in (("wall", wall), ("CPU time", cpu)):
        summary = interval_over_seeds(ratios)
        assert summary.interval is not None
        print(
            f"harness / bare, {name}: mean {summary.mean:.3f}, 95 % interval "
            f"{summary.interval.low:.3f} to {summary.interval.high:.3f} over {len(ratios)} pairs"
        )


if __name__ == "__main__":
    main()
