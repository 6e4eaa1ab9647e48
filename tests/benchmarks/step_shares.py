"""How much of a step is not the model, and how much of the model is not its mixers.

    python tests/benchmarks/step_shares.py [--models transformer,local] [--lengths 1024,4096] [--pairs 9]

Everything takes turns in one process, in an order that is reversed every time, on the staged batch of random
bytes that `lra-bench bench` uses. Prints medians over the pairs, with their intervals:

- harness / bare: the step that is timed against a loop written by hand with the same optimiser;
- outside: the share of the step that is neither forward nor backward (clipping, update, clearing);
- shell: the share of forward and backward that is left when every mixer is replaced by an identity
  (embedding, norms, feed-forward, pooling, head);
- default AdamW: the same step with the optimiser as PyTorch makes it by default, not fused.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lra_bench.bench.plan import resolve_plan
from lra_bench.bench.workload import byte_spec, random_batch
from lra_bench.building import build_model
from lra_bench.data.batches import Batch
from lra_bench.encoder import Block
from lra_bench.measure.machine import available_cores, busy_cores
from lra_bench.optimization import build_optimizer
from lra_bench.protocol import Settings
from lra_bench.registry import models
from lra_bench.stats import median_interval
from lra_bench.step_metrics import StepMetrics

Step = Callable[[], object]
CPU = torch.device("cpu")


class Identity(nn.Module):
    """In a mixer's place."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="transformer,linformer,local")
    parser.add_argument("--lengths", default="1024,4096")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(available_cores())
    busy = busy_cores()
    if busy is not None and busy > 0.2:
        print(f"Others keep {busy:.1f} cores busy.", file=sys.stderr)
    lengths = [int(length) for length in given.lengths.split(",")]
    plan = resolve_plan(given.models.split(","), lengths, batch_size=given.batch_size, device="cpu")
    print(f"batch {given.batch_size}, {torch.get_num_threads()} threads, {given.pairs} rounds")
    for name in given.models.split(","):
        for length in lengths:
            report(name, length, plan.settings, plan.options[name], given.pairs)


def report(name: str, length: int, settings: Settings, options: dict[str, object], pairs: int) -> None:
    spec = byte_spec(length, padded=False)

    def build() -> nn.Module:
        torch.manual_seed(0)
        return build_model(models.get(name), options, settings.architecture, spec)

    batch = random_batch(spec, settings.budget.batch_size)
    metrics = StepMetrics(build, lambda: batch, settings, spec, device=CPU, session="")
    without = build()
    for block in without.modules():
        if isinstance(block, Block):
            block.mixer = Identity()
    steps: dict[str, Step] = {
        "harness": metrics.stage().run,
        "bare": bare_step(build(), batch, settings, fused=True),
        "default": bare_step(build(), batch, settings, fused=False),
        "model": passes(build(), batch),
        "shell": passes(without, batch),
    }
    rounds = take_turns(steps, pairs)
    print(
        f"{name:12s} {length:6,}  harness / bare {quotient(rounds, 'harness', 'bare')}"
        f"  outside {quotient(rounds, 'harness', 'model', outside=True)}"
        f"  shell {quotient(rounds, 'shell', 'model')}"
        f"  default AdamW / fused {quotient(rounds, 'default', 'bare')}",
        flush=True,
    )


def bare_step(model: nn.Module, batch: Batch, settings: Settings, *, fused: bool) -> Step:
    """A loop as one writes it."""
    chosen = settings.optimizer
    optimizer = (
        build_optimizer(model, chosen, CPU)
        if fused
        else torch.optim.AdamW(
            model.parameters(),
            lr=chosen.learning_rate,
            betas=chosen.betas,
            eps=chosen.epsilon,
            weight_decay=chosen.weight_decay,
        )
    )

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(*batch.inputs), batch.labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), chosen.gradient_clip_norm or 1.0)
        optimizer.step()

    return step


def passes(model: nn.Module, batch: Batch) -> Step:
    """Forward, loss and backward alone."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(*batch.inputs), batch.labels).backward()

    return step


def take_turns(steps: dict[str, Step], pairs: int) -> list[dict[str, float]]:
    """Seconds of each step in every round, the first two rounds left out."""
    rounds = []
    for number in range(pairs + 2):
        names = list(steps) if number % 2 else list(reversed(steps))
        taken = {}
        for name in names:
            steps[name]()  # the caches are the last one's
            start = time.perf_counter()
            for _ in range(3):
                steps[name]()
            taken[name] = (time.perf_counter() - start) / 3
        rounds.append(taken)
    return rounds[2:]


def quotient(rounds: Sequence[dict[str, float]], over: str, under: str, *, outside: bool = False) -> str:
    """Median and interval of one's time over another's; or of the share by which the first is longer."""
    values = [1 - one[under] / one[over] if outside else one[over] / one[under] for one in rounds]
    interval = median_interval(values)
    return f"{statistics.median(values):.3f} ({interval.low:.3f} to {interval.high:.3f})"


if __name__ == "__main__":
    main()
