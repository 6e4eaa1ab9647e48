"""Ladders found among records: what each change between the plain Transformer and a variant does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lra_bench import registry
from lra_bench.records import RunRecord
from lra_bench.registry import Rung
from lra_bench.report.numbers import binary_bytes, duration, percent, si
from lra_bench.report.scoring import NOT_RUN, Summary, summarise, task_key
from lra_bench.report.table import Table

ENOUGH = 3
"""Steps of a ladder that must be there before it is shown; fewer say nothing of single changes."""

COLUMNS = ("step", "accuracy", "n", "step time", "peak memory", "FLOPs", "parameters", "verdict")


@dataclass(frozen=True)
class Step:
    """One rung, with its runs over seeds."""

    label: str
    runs: tuple[RunRecord, ...]

    @property
    def summary(self) -> Summary | None:
        scores = [run.accuracy.best for run in self.runs if run.accuracy]
        return summarise(scores) if scores else None


@dataclass(frozen=True)
class Climb:
    """A ladder on one task."""

    model: str
    task: str
    steps: tuple[Step, ...]

    @property
    def title(self) -> str:
        return f"{self.model} on {self.task}"


def climbs(records: Sequence[RunRecord]) -> list[Climb]:
    """Ladders of which these records, of one board, hold enough steps; by model and task."""
    by_task: dict[tuple[str, str], list[RunRecord]] = {}
    for record in sorted(records, key=lambda one: (one.task.name, one.seed)):
        by_task.setdefault(task_key(record), []).append(record)
    found = []
    for entry in registry.models:
        for (task, _), members in sorted(by_task.items()):
            steps = tuple(
                Step(rung.label, tuple(run for run in members if stands_on(run, rung)))
                for rung in entry.ladder
            )
            if sum(1 for step in steps if step.runs) >= ENOUGH:
                found.append(Climb(entry.name, task, steps))
    return found


def stands_on(record: RunRecord, rung: Rung) -> bool:
    """Whether a run is of the rung's model, with its options and no other change."""
    model = record.model
    return (
        model.name == rung.model
        and set(model.changed_options) <= set(rung.options)
        and all(
            name in model.options and model.options[name] == value for name, value in rung.options.items()
        )
    )


def ladder_table(climb: Climb) -> Table:
    """One line a step."""
    note = (
        "One change a step, from the plain Transformer up. Accuracy: a mean over n seeds. Step times are of "
        "separate runs and compare roughly."
    )
    return Table(
        f"Ladder of {climb.title}", note, [ladder_row(step.label, step.runs) for step in climb.steps]
    )


def ladder_row(label: str, runs: Sequence[RunRecord]) -> dict[str, str]:
    """What a step's runs reached and cost."""
    if not runs:
        return dict.fromkeys(COLUMNS, NOT_RUN) | {"step": label, "n": "0"}
    first = runs[0]
    scores = [record.accuracy.best.accuracy for record in runs if record.accuracy]
    time, memory = first.comparable_step_time, first.comparable_peak_memory
    ratio = first.model.ratio
    return {
        "step": label,
        "accuracy": percent(sum(scores) / len(scores)) if scores else NOT_RUN,
        "n": str(len(scores)),
        "step time": duration(time.median_s) if time else NOT_RUN,
        "peak memory": binary_bytes(memory.peak_bytes) if memory else NOT_RUN,
        "FLOPs": si(first.flops.step) if first.flops else NOT_RUN,
        "parameters": f"{ratio:.2f} x" if ratio is not None else NOT_RUN,
        "verdict": first.verdict.label.replace("_", " ") if first.verdict else first.status,
    }
