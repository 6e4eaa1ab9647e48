"""Rows of a board from a few numbers, for tests of what stands below it."""

from __future__ import annotations

from dataclasses import dataclass, field

from lra_bench.report.scoring import Summary, TaskScore


@dataclass
class Row:
    label: str
    family: str
    scores: list[TaskScore] = field(default_factory=list)
    control: bool = False


def score(task: str, mean: float | None, status: str = "ok", runs: tuple[str, ...] = ()) -> TaskScore:
    summary = None if mean is None else Summary(mean, mean, mean, 1)
    return TaskScore(task, task, "", summary, status, 0, "", "", runs)
