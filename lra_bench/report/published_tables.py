"""Tables of others' figures, one for each source: beside ours, never ranked with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

from lra_bench.bench.analysis import bytes_ratio, time_ratio
from lra_bench.bench.records import REFERENCE, Session
from lra_bench.registry import tasks
from lra_bench.report.published import (
    PublishedCost,
    PublishedScore,
    PublishedTraining,
    all_published_scores,
    published_costs,
    published_training,
)
from lra_bench.report.scoring import AVERAGES, NOT_RUN
from lra_bench.report.table import Table

RowT = TypeVar("RowT", PublishedScore, PublishedTraining)
HEADING = "Published by others"
UNSURE = "?"
"""Marks what is not to be relied on."""
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


def published_efficiency_tables(session: Session) -> Iterator[Table]:
    """Ours beside the published efficiency table, both as ratios to the Transformer of their own table."""
    costs = published_costs()
    by_key = {(cost.model, cost.metric, cost.length): cost for cost in costs}
    lengths = [length for length in session.record.lengths if (REFERENCE, "memory", length) in by_key]
    names = [name for name in dict.fromkeys(cost.model for cost in costs) if name in session.labels]
    if session.record.mode != "train" or not lengths or len(names) < 2:
        return
    kinds: tuple[tuple[str, str, Literal["time", "bytes"]], ...] = (
        ("Step time", "steps_per_s", "time"),
        ("Memory", "memory", "bytes"),
    )
    for title, metric, quantity in kinds:
        rows = [
            {
                "model": name,
                **{f"{n:,}": _beside(session, name, n, metric, quantity, by_key) for n in lengths},
            }
            for name in names
            if name != REFERENCE
        ]
        first = costs[0]
        yield Table(
            f"{title} beside the published table, as ratios to the Transformer",
            f"Ours, then theirs ({first.source}: {first.setting}). What differs: {first.differs_from_ours}. "
            f"`{UNSURE}` marks cells of theirs that are suspicious.",
            rows,
        )


def _beside(
    session: Session,
    name: str,
    length: int,
    metric: str,
    quantity: Literal["time", "bytes"],
    published: dict[tuple[str, str, int], PublishedCost],
) -> str:
    cell = session.find(name, length, session.record.compiled[0])
    ours = None
    if cell is not None:
        ratio = time_ratio(cell)
        ours = (ratio and ratio.value) if quantity == "time" else bytes_ratio(session, cell)
    theirs, base = published[name, metric, length], published[REFERENCE, metric, length]
    # Steps per second are the inverse of a time.
    quotient = base.value / theirs.value if quantity == "time" else theirs.value / base.value
    mark = f" {UNSURE}" if theirs.remark else ""
    return f"{NOT_RUN if ours is None else f'{ours:.2f}'} / {quotient:.2f}{mark}"
