"""Tables of others' figures, one for each source: beside ours, never ranked with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from lra_bench.registry import tasks
from lra_bench.report.published import (
    PublishedScore,
    PublishedTraining,
    all_published_scores,
    published_training,
)
from lra_bench.report.scoring import AVERAGES
from lra_bench.report.table import Table

RowT = TypeVar("RowT", PublishedScore, PublishedTraining)
HEADING = "Published by others"
WARNING = (
    "Figures from papers and repositories, as printed there. Data, sizes, steps and rates differ from ours "
    "and from each other's, so that no row of these compares with one of ours. An average is the mean of its "
    "tasks as recomputed from the row, and blank unless all are there."
)


def published_accuracy_tables() -> list[Table]:
    """Accuracy in per cent, one table for each source."""
    order = [entry.name for entry in tasks if entry.averages]
    found = []
    for source, scores in _by_source(all_published_scores()).items():
        lines = []
        for name, own in _by_name(scores).items():
            values = {score.task: score for score in own}
            line = {"model": name}
            for task in order:
                line[task] = _shown(values.get(task))
            for number in AVERAGES:
                line[f"average of {number}"] = _average(number, values)
            lines.append(line)
        found.append(Table(source, _note(scores), lines))
    return found


def published_training_tables() -> list[Table]:
    """Hours and peak memory of whole training runs, one table for each source."""
    found = []
    for source, rows in _by_source(published_training()).items():
        lines = [
            {"model": name, **{row.task: f"{row.hours:g} h, {row.peak_gb:g} GB" for row in own}}
            for name, own in _by_name(rows).items()
        ]
        found.append(Table(source, _note(rows), lines))
    return found


def _shown(score: PublishedScore | None) -> str:
    if score is None:
        return "-"
    return score.remark if score.accuracy_percent is None else f"{score.accuracy_percent:.2f}"


def _average(number: int, values: dict[str, PublishedScore]) -> str:
    wanted = [entry.name for entry in tasks if number in entry.averages]
    known = [values[task].accuracy_percent for task in wanted if task in values]
    numbers = [value for value in known if value is not None]
    return f"{sum(numbers) / number:.2f}" if len(numbers) == number else ""


def _note(rows: list[RowT]) -> str:
    return f"Setting: {rows[0].setting}. Differs from ours: {rows[0].differs_from_ours}."


def _by_source(rows: Iterable[RowT]) -> dict[str, list[RowT]]:
    found: dict[str, list[RowT]] = {}
    for row in rows:
        found.setdefault(row.source, []).append(row)
    return found


def _by_name(rows: Iterable[RowT]) -> dict[str, list[RowT]]:
    found: dict[str, list[RowT]] = {}
    for row in rows:
        found.setdefault(row.name_there, []).append(row)
    return found
