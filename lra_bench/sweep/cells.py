"""From a plan to cells, in a fixed order and each once: controls, trials of a tuning, then the cells proper.

Seeds change slowest, so that a sweep that is stopped early has most of a table rather than a corner of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lra_bench import protocol as protocols
from lra_bench import registry
from lra_bench.bench.plan import match_networks
from lra_bench.building import COMMON_OPTIONS, model_options
from lra_bench.cell import Cell, resolve_cell
from lra_bench.data.building import task_options
from lra_bench.errors import UsageError, suggest
from lra_bench.ladder import ladder_cells
from lra_bench.launch.controls import control_cells, needs_controls
from lra_bench.protocol import Protocol
from lra_bench.registry import Entry
from lra_bench.sweep.plan import SweepPlan
from lra_bench.sweep.tuning import can_be_tuned, trial_cells, trials_folder

Role = Literal["control", "trial", "cell"]


@dataclass(frozen=True)
class Item:
    """One cell of a sweep, and what has to be there before it."""

    cell: Cell
    """With trials: before its learning rate and weight decay are chosen."""
    results: Path
    role: Role
    controls: tuple[Cell, ...] = ()
    """Their records lie in the same folder."""
    trials: tuple[Cell, ...] = ()
    """Their records lie in `tuning.trials_folder`."""

    @property
    def key(self) -> tuple[str, str, int]:
        """Tells items apart, also before a tuned cell has its run id."""
        return str(self.results), self.cell.run_id, len(self.trials)


def resolve_items(plan: SweepPlan, there: tuple[str, str] | None = None) -> list[Item]:
    """The cells of a plan's shard with all that they need, in the order in which they are run.

    there: the device and its slug on the machines that run the cells, if those are others than this one.

    Raises:
        UsageError: an unknown name or key, or a value out of range. DataError: source data are missing.
    """
    loaded = protocols.load(plan.protocol)
    items: dict[tuple[str, str, int], Item] = {}
    controls: dict[tuple[str, str, int], Item] = {}
    for item in _cells(plan, loaded, there):
        if not _in_shard(item.cell, plan.shard):
            continue
        for control in item.controls:
            needed = Item(control, plan.results, "control")
            controls.setdefault(needed.key, needed)
        for trial in item.trials:
            needed = Item(trial, trials_folder(plan.results), "trial")
            items.setdefault(needed.key, needed)
        items.setdefault(item.key, item)
    # A control that was also named as a model is run once, as the control that it is.
    return [*controls.values(), *(item for key, item in items.items() if key not in controls)]


def _in_shard(cell: Cell, shard: tuple[int, int] | None) -> bool:
    """By the run id alone: whatever else is in the plan, a cell stays in its shard."""
    return shard is None or int(cell.run_id, 16) % shard[1] == shard[0] - 1


def _cells(plan: SweepPlan, protocol: Protocol, there: tuple[str, str] | None) -> Iterator[Item]:
    def placed(cell: Cell) -> Cell:
        return cell if there is None else replace(cell, device=there[0], device_slug=there[1])

    device = plan.device if there is None else "cpu"  # which every machine has, so that all is checked here
    first = [placed(cell) for cell in _first_seeds(plan, protocol, device)]
    by_data: dict[tuple[str, str], tuple[Cell, ...]] = {}
    for seed in plan.seeds:
        for cell in first:
            controls: tuple[Cell, ...] = ()
            if needs_controls(cell):
                data = cell.task, repr(sorted(cell.overrides.items()))
                if data not in by_data:
                    by_data[data] = tuple(map(placed, control_cells(replace(cell, device=device), protocol)))
                controls = by_data[data]
            trials = tuple(trial_cells(cell, plan.tune)) if plan.tune and can_be_tuned(cell) else ()
            yield Item(replace(cell, seed=seed), plan.results, "cell", controls, trials)


def _first_seeds(plan: SweepPlan, protocol: Protocol, device: str) -> Iterator[Cell]:
    """Each model with each combination of options on each task; seeds change nothing that is checked."""
    models = match_models(plan.models)
    tasks = match_tasks(plan.tasks)
    ladders = [registry.models.get(name) for name in plan.ablate]
    _check_somebody_has(plan.settings, models, tasks, ladders=bool(ladders))
    common: dict[str, Any] = {
        "protocol": protocol,
        "device": device,
        "seed": plan.seeds[0],
        "precision": plan.precision,
        "compiled": plan.compiled,
        "metrics": plan.metrics,
    }
    for task in tasks:
        for model in models:
            for settings in _combinations(plan.settings, set(model_options(model)), task):
                yield resolve_cell(model.name, task.name, assignments=settings, **common)
        for ladder in ladders:
            # A ladder sets the options of its models itself.
            for settings in _combinations(plan.settings, set(COMMON_OPTIONS), task):
                for _, cell in ladder_cells(ladder.name, task.name, assignments=settings, **common):
                    yield cell


def _combinations(
    axes: Mapping[str, tuple[Any, ...]], known: set[str], task: Entry
) -> Iterator[dict[str, Any]]:
    """Every combination of the axes that apply to a model with the options `known` and to a task."""
    of_task = set(task_options(task))
    options = {"model": known, "task": of_task}
    mine = {
        key: values
        for key, values in axes.items()
        if key.partition(".")[0] not in options or key.partition(".")[2] in options[key.partition(".")[0]]
    }
    for values in itertools.product(*mine.values()):
        yield dict(zip(mine, values, strict=True))


def _check_somebody_has(
    axes: Mapping[str, tuple[Any, ...]], models: list[Entry], tasks: list[Entry], *, ladders: bool
) -> None:
    """An option that only some have applies to those; one that nobody has is a mistake."""
    known = {
        "model": {option for model in models for option in model_options(model)},
        "task": {option for task in tasks for option in task_options(task)},
    }
    if ladders:
        known["model"] |= set(COMMON_OPTIONS)
    for key in axes:
        root, _, option = key.partition(".")
        if root in known and option not in known[root]:
            raise UsageError(f"--set {key}: no {root} here has that option. {suggest(option, known[root])}")


def match_models(patterns: tuple[str, ...]) -> list[Entry]:
    """Models in the order given, each once; a glob finds mixers and encoders that are no controls.

    Raises:
        UsageError: a pattern that fits nothing.
    """
    found: dict[str, Entry] = {}
    for pattern in patterns:
        entries = match_networks([pattern]) if _is_glob(pattern) else [registry.models.get(pattern)]
        found.update({entry.name: entry for entry in entries})
    return list(found.values())


def match_tasks(patterns: tuple[str, ...]) -> list[Entry]:
    """Tasks by name, glob or dotted path, in the order given, each once.

    Raises:
        UsageError: a pattern that fits nothing.
    """
    found: dict[str, Entry] = {}
    for pattern in patterns:
        entries = registry.tasks.match(pattern) if _is_glob(pattern) else [registry.tasks.get(pattern)]
        if not entries:
            raise UsageError(
                f"No task matches {pattern!r}. {suggest(pattern.strip('*?'), registry.tasks.names())}"
            )
        found.update({entry.name: entry for entry in entries})
    return list(found.values())


def _is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")
