"""Our models beside public implementations of the same variants: time and memory, as ratios.

Not a test: `PYTHONPATH=tests python tests/benchmarks/mixer_speed.py [--only NAME] [--lengths 1024,4096]`.
Peers and their options are those of tests/peers/<entry>.py (docs/MODELS.md says how to install them); what
is not installed is named and left out. One layer with its projections, forward and backward of mean(y^2),
float32, batch 4, width 128, 4 heads. The two take turns in one process, so that load hits both alike.
Time is wall time; a ratio is the median over rounds, with the distribution-free 95 % interval of that
median. Peak bytes are the allocator's high water within a step, beyond parameters and input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peers.freeze import NOT_PEERS
from peers.peer import Speed
from torch import nn

from lra_bench.measure.machine import cpu_model
from lra_bench.measure.memory import allocator_high_water
from lra_bench.registry import models
from lra_bench.stats import median_interval
from lra_bench.validation.subject import Sizes, Subject

DIM, NUM_HEADS, HEAD_DIM, FFN_DIM = 128, 4, 32, 512
PEERS = Path(__file__).resolve().parents[1] / "peers"


@dataclass(frozen=True)
class Ratio:
    """Ours over the peer's, at one length."""

    model: str
    options: dict[str, object]
    peer: str
    length: int
    ours_ms: float
    time: float
    time_low: float
    time_high: float
    peak_bytes: float
    rounds: int


def speeds(only: str) -> list[tuple[str, Speed]]:
    """Entry and peer, in the catalog's order."""
    found = []
    for entry in models:
        if (PEERS / f"{entry.name}.py").exists() and only in entry.name and entry.name not in NOT_PEERS:
            peers = importlib.import_module(f"peers.{entry.name}")
            found += [(entry.name, speed) for speed in getattr(peers, "SPEEDS", [])]
    return found


def step(module: nn.Module, x: torch.Tensor) -> None:
    module.zero_grad(set_to_none=True)
    x.grad = None
    module(x).square().mean().backward()


def timed(module: nn.Module, x: torch.Tensor) -> float:
    start = time.perf_counter()
    step(module, x)
    return time.perf_counter() - start


def compare(name: str, speed: Speed, length: int, batch: int, budget_s: float, most: int) -> Ratio:
    """Rounds until the budget is spent, at least seven and at most `most`."""
    torch.manual_seed(0)
    peer = speed.build(length).train()
    entry = models.get(name)
    sizes = Sizes(DIM, NUM_HEADS, HEAD_DIM, length, FFN_DIM)
    ours = Subject(entry, {**entry.options, **speed.options}, sizes).build().train()
    x = torch.randn(batch, length, DIM, requires_grad=True)
    peaks = []
    for module in (ours, peer):
        step(module, x)
        module.zero_grad(set_to_none=True)
        x.grad = None
        peaks.append(allocator_high_water(lambda module=module: step(module, x)) or 0)
    times, ratios = [], []
    start = time.perf_counter()
    while len(ratios) < 7 or (len(ratios) < most and time.perf_counter() - start < budget_s):
        order = (ours, peer) if len(ratios) % 2 else (peer, ours)
        taken = {id(module): timed(module, x) for module in order}
        times.append(taken[id(ours)])
        ratios.append(taken[id(ours)] / taken[id(peer)])
    interval = median_interval(ratios)
    return Ratio(
        name,
        dict(speed.options),
        speed.peer,
        length,
        1000 * statistics.median(times),
        statistics.median(ratios),
        interval.low,
        interval.high,
        peaks[0] / max(peaks[1], 1),
        len(ratios),
    )


HEAD = """# Beside public implementations
Written by `PYTHONPATH=tests python tests/benchmarks/mixer_speed.py --markdown docs/SPEED.md`. Ratios are
ours over theirs: below 1 is better. One layer with its projections, forward and backward, float32,
batch {batch}, width {dim}, {heads} heads, {threads} threads, {machine}, PyTorch {torch}.
Time is the median over interleaved rounds of wall time, with the distribution-free 95 % interval of that
median. Peak bytes are the allocator's high water within a step, beyond parameters and input. Peers without
a version are not packages: they are the usual composition in PyTorch, where no package was found.

"""
COLUMNS = ["model", "beside", "n", "ours, ms", "time ratio", "95 % interval", "rounds", "peak bytes ratio"]


def row(one: Ratio) -> str:
    label = " ".join([f"`{one.model}`", *(f"{key}={value}" for key, value in one.options.items())])
    cells = [label, one.peer, f"{one.length:,}", f"{one.ours_ms:.1f}", f"{one.time:.2f}"]
    cells += [f"{one.time_low:.2f} to {one.time_high:.2f}", str(one.rounds), f"{one.peak_bytes:.2f}"]
    return f"| {' | '.join(cells)} |"


def summary(ratios: list[Ratio]) -> str:
    """What the goals are held to."""
    times = statistics.geometric_mean(one.time for one in ratios)
    peaks = statistics.geometric_mean(one.peak_bytes for one in ratios)
    slower = [f"{one.model} ({one.length:,})" for one in ratios if one.time_low > 1.05]
    hungrier = [f"{one.model} ({one.length:,})" for one in ratios if one.peak_bytes > 1.0]
    return (
        f"\nGeometric means over {len(ratios)} rows: time {times:.2f}, peak bytes {peaks:.2f}.\n"
        f"Interval of the time ratio wholly above 1.05: {', '.join(slower) or 'none'}.\n"
        f"More peak bytes than the peer: {', '.join(hungrier) or 'none'}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", default="1024,4096")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of rounds for a pair and length")
    parser.add_argument("--rounds", type=int, default=40, help="at most")
    parser.add_argument("--only", default="", help="part of a model's name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, default=None, help="write the table to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---:|---:|---:|---|---:|---:|"]
    print("\n".join(lines))
    ratios: list[Ratio] = []
    for name, speed in speeds(arguments.only):
        for length in [int(text) for text in arguments.lengths.split(",")]:
            if length not in speed.lengths:
                continue
            try:
                one = compare(name, speed, length, arguments.batch_size, arguments.budget, arguments.rounds)
            except ImportError as error:
                print(f"{name}: {speed.peer} is not installed ({error})", file=sys.stderr)
                break
            ratios.append(one)
            lines.append(row(one))
            print(lines[-1], flush=True)
    if not ratios:
        return
    print(summary(ratios))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in ratios], indent=1) + "\n", "utf-8")
    if arguments.markdown:
        head = HEAD.format(
            batch=arguments.batch_size,
            dim=DIM,
            heads=NUM_HEADS,
            threads=arguments.threads,
            machine=cpu_model(),
            torch=torch.__version__,
        )
        arguments.markdown.write_text(head + "\n".join([*lines, summary(ratios)]), "utf-8")


if __name__ == "__main__":
    main()
