"""Batches per second of the data path against training steps per second of the fastest model, per task.

    python tests/benchmarks/batches_per_second.py [--tasks listops,image] [--protocol quick] [--rounds 3]

Both take turns in one process, round after round; medians. The data path makes the batches of random
training steps of the first few epochs, from memory-mapped shards, with the protocol's batch size and
padding, in one thread. The models train on one such batch, which is on the device beforehand. A ratio of
20 says that a step loses less than 5 % to making its batch, on the CPU where nothing runs ahead.

On the CPU there are two ratios. `wall` is of wall times, with all cores for the models: others who use
the machine flatter it. `CPU` is of processor time, where a step is taken to need a one-thread step's
time divided by the cores, less than it can: it stands under load, and it is what the goal is held to.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from lra_bench import protocol as protocols
from lra_bench.building import build_model
from lra_bench.cell import Cell, resolve_cell
from lra_bench.data.batches import BatchSource
from lra_bench.data.prepare import prepare
from lra_bench.data.resident import place
from lra_bench.data.task import Task
from lra_bench.errors import LraBenchError, UsageError
from lra_bench.measure.machine import available_cores, cpu_model
from lra_bench.measure.timing import synchronise
from lra_bench.optimization import build_optimizer, training_step
from lra_bench.registry import models, tasks

GOAL = 20.0
EPOCHS = 3
HOPELESS = 10.0
"""A mixer whose closed form is this many times the least is not the fastest, and need not fit."""


class Times(NamedTuple):
    wall: float
    cpu: float
    """Of one thread; of a step, divided by the cores, and 0 where it runs on an accelerator."""


@dataclass
class Result:
    """Medians; seconds of a batch, and of a training step of the fastest model."""

    task: str
    batch: str
    first_batch_s: float
    batch_s: Times
    step_s: Times
    model: str

    @property
    def wall_ratio(self) -> float:
        return self.step_s.wall / self.batch_s.wall

    @property
    def ratio(self) -> float:
        """What the goal is held to."""
        return self.step_s.cpu / self.batch_s.cpu if self.step_s.cpu else self.wall_ratio


def candidates(task_name: str, task: Task, given: argparse.Namespace) -> list[Cell]:
    """Cells of the models that may be the fastest on a task, cheapest first."""
    names = [entry.name for entry in models if not entry.is_control and entry.kind != "classifier"]
    costs = {}
    for name in names:
        try:
            cell = resolve_cell(name, task_name, protocol=given.protocol, device=given.device)
        except UsageError as error:
            print(f"{task_name}: {name} left out ({error})", file=sys.stderr)
            continue
        shape = cell.settings.architecture
        closed_form = getattr(cell.model_entry.load(), "cost", None)
        cost = 0
        if closed_form is not None:
            size = (task.spec.max_length, shape.dim, shape.num_heads)
            cost = closed_form(*size, head_dim=shape.head_dim, **cell.model_options).flops
        costs[name] = (cost, cell)
    least = min((cost for cost, _ in costs.values() if cost), default=0)
    kept = sorted(costs.values(), key=lambda pair: pair[0])
    return [cell for cost, cell in kept if cost <= HOPELESS * least]


def trainer_of(cell: Cell, task: Task, source: BatchSource) -> Callable[[], None]:
    """One training step on a batch that is on the device."""
    device, settings = torch.device(cell.device), cell.settings
    torch.manual_seed(0)
    model = build_model(cell.model_entry, cell.model_options, settings.architecture, task.spec).to(device)
    optimizer = build_optimizer(model.train(), settings.optimizer, device)
    batch = source.training_batch(settings.budget.batch_size, 0, 0).to(device)

    def step() -> None:
        clip_norm = settings.optimizer.gradient_clip_norm
        training_step(model, optimizer, batch, clip_norm=clip_norm, precision=cell.precision)

    return step


def timed(step: Callable[[], None], device: torch.device) -> Times:
    """One step with all cores in wall time, and on the CPU one more in one thread, in processor time."""
    cores = available_cores()
    synchronise(device)
    start = time.perf_counter()
    step()
    synchronise(device)
    wall = time.perf_counter() - start
    if device.type != "cpu":
        return Times(wall, 0.0)
    torch.set_num_threads(1)
    start = time.process_time()
    step()
    cpu = time.process_time() - start
    torch.set_num_threads(cores)
    return Times(wall, cpu / cores)


def median(samples: list[Times]) -> Times:
    return Times(*(statistics.median(column) for column in zip(*samples, strict=True)))


def measure(task_name: str, given: argparse.Namespace) -> Result:
    settings = protocols.load(given.protocol).settings(task_name)
    some_cell = resolve_cell("transformer", task_name, protocol=given.protocol, device=given.device)
    task, device = some_cell.build_task(), torch.device(some_cell.device)
    count = min(settings.data.train_examples or math.inf, given.examples, task.split_sizes["train"])
    prepared = prepare(task, "train", int(count))
    host = BatchSource(prepared, task.spec, padding=settings.data.padding)
    source, size = place(host, device), settings.budget.batch_size

    start = time.perf_counter()
    first = source.training_batch(size, 0, 0)
    synchronise(device)
    first_batch_s = time.perf_counter() - start

    steps = np.random.default_rng(0).integers(0, max(1, EPOCHS * source.num_examples // size), 2**16).tolist()
    for step in steps[:: 2**10]:  # touches the files and their orders
        source.training_batch(size, 0, step)

    def batches(seconds: float) -> Times:
        """Of one batch."""
        done, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            source.training_batch(size, 0, steps[done % len(steps)])
            done += 1
        synchronise(device)
        return Times((time.perf_counter() - wall) / done, (time.process_time() - cpu) / done)

    cells = candidates(task_name, task, given)
    trainers = {cell.model: trainer_of(cell, task, host) for cell in cells}
    # Mixers that are far behind at once are not timed on. What starts with the first step is not judged.
    for step in trainers.values():
        step()
    tried = {name: timed(step, device) for name, step in trainers.items()}
    key = (lambda times: times.cpu) if device.type == "cpu" else (lambda times: times.wall)
    least = min(map(key, tried.values()))
    trainers = {name: step for name, step in trainers.items() if key(tried[name]) <= 3 * least}
    batch_s: list[Times] = []
    step_s: dict[str, list[Times]] = {name: [] for name in trainers}
    for _ in range(given.rounds):
        batch_s.append(batches(given.seconds))
        for name, step in trainers.items():
            step_s[name] += [timed(step, device) for _ in range(given.steps)]
    medians = {name: median(samples) for name, samples in step_s.items()}
    if given.all:
        for name, times in sorted(medians.items(), key=lambda item: key(item[1])):
            print(f"  {task_name}: {name} {1 / times.wall:.1f} steps/s, {1e3 * times.cpu:.1f} CPU ms a core")
    fastest = min(medians, key=lambda name: key(medians[name]))
    shape = " x ".join(map(str, (len(first), *([2] if task.spec.paired else []), first.input_ids.shape[1])))
    return Result(task_name, shape, first_batch_s, median(batch_s), medians[fastest], fastest)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="", help="comma list; all by default")
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--examples", type=int, default=8000, help="at most so many are prepared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each model in a round")
    parser.add_argument("--seconds", type=float, default=0.3, help="of the data path in a round")
    parser.add_argument("--all", action="store_true", help="shows every model that was measured")
    given = parser.parse_args()
    torch.set_num_threads(available_cores())
    print(
        f"{cpu_model()}, device {given.device}, protocol {given.protocol}; data path: one thread; "
        f"models: {torch.get_num_threads()} threads; ratios of steps to batches, goal {GOAL:g}"
    )
    header = (
        f"{'task':12}{'batch':>14}{'first s':>9}{'batches/s':>11}{'CPU us':>8}{'steps/s':>9}{'CPU ms':>8}"
    )
    print(f"{header}{'wall':>8}{'CPU':>8}")
    missed = False
    for name in given.tasks.split(",") if given.tasks else tasks.names():
        try:
            result = measure(name, given)
        except LraBenchError as error:
            print(f"{name:12}  left out: {error}")
            continue
        missed |= result.ratio < GOAL
        row = f"{name:12}{result.batch:>14}{result.first_batch_s:9.2f}{1 / result.batch_s.wall:11.0f}"
        row += f"{1e6 * result.batch_s.cpu:8.0f}{1 / result.step_s.wall:9.1f}{1e3 * result.step_s.cpu:8.1f}"
        row += f"{result.wall_ratio:8.0f}{result.ratio:8.0f}  {result.model}"
        print(row + ("" if result.ratio >= GOAL else "  BELOW THE GOAL"), flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
