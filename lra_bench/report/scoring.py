"""Scores of a model on a task: over seeds, beside other models, over tasks; and why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lra_bench.comparison import compare, letters
from lra_bench.records import RunRecord, Score
from lra_bench.registry import tasks
from lra_bench.report.numbers import interval
from lra_bench.stats import interval_over_seeds, wilson_interval

REASONS = {
    "oom": "OOM",
    "timeout": "T/O",
    "diverged": "NaN",
    "error": "error",
    "unsupported": "n/a",
}
NOT_RUN = "-"
PARAMETER_MARK = 1.10
AVERAGES = (5, 6)
"""Of how many tasks; see `registry.Entry.averages`."""
MIN_SEEDS = 2
"""Of a model that is compared with others: a single run says nothing about the next one."""
VERDICT_MARKS = {"chance": " (c)", "not_above_controls": " (k)", "not_compared": " (?)", "above_controls": ""}

Correctness = Callable[[RunRecord], "NDArray[np.bool_] | None"]
"""Which test examples a run had right; None where that is not known."""


@dataclass(frozen=True)
class Summary:
    """A score over seeds."""

    mean: float
    low: float
    high: float
    seeds: int


def summarise(scores: Sequence[Score]) -> Summary:
    """Mean over seeds with an interval for both the choice of seeds and of test examples.

    One seed: Wilson's interval. Several: Student's t for the spread between seeds and the normal
    interval of a share for the test examples, which all seeds have in common, added in quadrature.
    """
    seeds, n = len(scores), scores[0].n
    over_seeds = interval_over_seeds([score.accuracy for score in scores])
    mean = over_seeds.mean
    if over_seeds.interval is None:
        bounds = wilson_interval(scores[0].correct, n)
        return Summary(mean, bounds.low, bounds.high, 1)
    over_examples = float(special.ndtri(0.975)) * math.sqrt(mean * (1 - mean) / n)
    half = math.hypot(over_seeds.interval.high - mean, over_examples)
    return Summary(mean, max(0.0, mean - half), min(1.0, mean + half), seeds)


def label_of(record: RunRecord) -> str:
    return record.model.label


def task_key(record: RunRecord) -> tuple[str, str]:
    test = record.task.splits.get("test")
    return record.task.name, test.sha256 if test else ""


@dataclass(frozen=True)
class TaskScore:
    """What a model reached on one task, over its seeds: a cell of a leaderboard."""

    column: str
    """The task, with the digest of its test examples where a table has two versions of them."""
    task: str
    dataset: str
    summary: Summary | None
    """None where no seed has a score; `status` says why."""
    status: str
    """ok, speed only (measured without training), not run, or how the runs ended."""
    failed: int
    """Runs without a score, of those that trained."""
    verdict: str
    """What holds of every seed (`records.VerdictLabel`), else mixed; empty for controls."""
    letters: str
    """Models of a column that share one can't be told apart; empty where not compared."""
    run_ids: tuple[str, ...]
    chance: float | None = None
    """Accuracy of the best guess that ignores the input; None where not run."""
    above_chance: int | None = None
    """Seeds whose own interval lies above chance: some tasks are learned by some seeds and not by others."""

    @property
    def text(self) -> str:
        """As in a table."""
        if self.summary is None:
            return {"not run": NOT_RUN}.get(self.status, REASONS.get(self.status, self.status))
        one = self.summary
        lost = f", {self.failed} failed" if self.failed else ""
        mark = VERDICT_MARKS.get(self.verdict, "")
        bounds = interval((one.low, one.high))
        split = ""
        if self.above_chance is not None and 0 < self.above_chance < one.seeds:
            split = f", {self.above_chance} above chance"
        score = f"{100 * one.mean:.1f} ({bounds}; n={one.seeds}{split}{lost}){mark}"
        return " ".join(filter(None, [score, self.letters]))

    @property
    def short(self) -> str:
        """Without interval and seeds, for where there is no room."""
        if self.summary is None:
            return self.text
        score = f"{100 * self.summary.mean:.1f}{VERDICT_MARKS.get(self.verdict, '')}"
        return " ".join(filter(None, [score, self.letters]))


def task_score(column: str, records: Sequence[RunRecord], letters_of_it: str = "") -> TaskScore:
    """The score of one model on one task; `records` are its seeds, or none."""
    if not records:
        return TaskScore(column, "", "", None, "not run", 0, "", "", ())
    first = records[0]
    scored = [record for record in records if record.accuracy and record.status == "ok"]
    verdicts = {record.verdict.label for record in scored if record.verdict}
    if verdicts == {"chance", "not_above_controls"}:
        verdicts = {"not_above_controls"}  # what holds of every seed
    verdict = "" if first.model.control or not verdicts else verdicts.pop() if len(verdicts) == 1 else "mixed"
    status = "ok" if scored else "speed only" if first.status == "ok" else first.status
    return TaskScore(
        column,
        first.task.name,
        first.task.dataset,
        summarise([record.accuracy.best for record in scored if record.accuracy]) if scored else None,
        status,
        len(records) - len(scored),
        verdict,
        letters_of_it,
        tuple(record.run_id for record in records),
        first.task.chance,
        sum(one.accuracy.best.interval[0] > one.task.chance for one in scored if one.accuracy),
    )


def tie_letters(records: Iterable[RunRecord], correctness: Correctness) -> dict[str, str]:
    """Letters of one column by label, the best model first; {} where fewer than two can be compared."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for record in records:
        correct = correctness(record) if record.status == "ok" and not record.model.control else None
        if correct is not None:
            found.setdefault(label_of(record), []).append(correct)
    several = {label: np.stack(seeds) for label, seeds in found.items() if len(seeds) >= MIN_SEEDS}
    if len(several) < 2:
        return {}
    best_first = sorted(several, key=lambda label: (-several[label].mean(), label))
    return letters(best_first, compare({label: several[label] for label in best_first}))


def average_over_tasks(runs: Sequence[RunRecord], number: int) -> str:
    """Mean over the tasks of an average; blank unless each has a score, on one version of its data."""
    wanted = {entry.name for entry in tasks if number in entry.averages}
    scored = [record for record in runs if record.accuracy and record.status == "ok"]
    by_task: dict[str, list[RunRecord]] = {}
    for record in scored:
        by_task.setdefault(record.task.name, []).append(record)
    whole = all(
        name in by_task and len({task_key(record) for record in by_task[name]}) == 1 for name in wanted
    )
    if not whole:
        return ""
    means = [
        summarise([record.accuracy.best for record in by_task[name] if record.accuracy]).mean
        for name in sorted(wanted)
    ]
    return f"{100 * sum(means) / len(means):.1f}"


def coverage(runs: Sequence[RunRecord]) -> str:
    """'4/6': tasks of the largest average that have a score."""
    wanted = {entry.name for entry in tasks if max(AVERAGES) in entry.averages}
    found = {record.task.name for record in runs if record.accuracy and record.status == "ok"}
    return f"{len(found & wanted)}/{len(wanted)}"
