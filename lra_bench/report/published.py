"""What others published, for orientation beside our own figures; never ranked with them."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedScore:
    """One cell of somebody's table."""

    source: str
    name_there: str
    model: str
    """Our name for it, whether or not it is in the registry."""
    task: str
    accuracy_percent: float | None
    remark: str
    setting: str
    differs_from_ours: str


def published_scores(model: str, task: str) -> list[PublishedScore]:
    """Rows for a model on a task; the nearest setting to the lite protocol last in the file comes first."""
    # The small two-layer tables stand after the 2020 one and are nearer to ours.
    return [score for score in published_of(model) if score.task == task][::-1]


def published_of(model: str) -> list[PublishedScore]:
    """All rows for a model, in the order of the file."""
    return [score for score in all_published_scores() if score.model == model]


def all_published_scores() -> list[PublishedScore]:
    """All rows, in the order of the file."""
    return [
        PublishedScore(
            row["source"],
            row["name_there"],
            row["model"],
            row["task"],
            float(row["value"]) if row["value"] else None,
            row["remark"],
            row["setting"],
            row["differs_from_ours"],
        )
        for row in _rows("accuracy.csv")
    ]


@dataclass(frozen=True)
class PublishedCost:
    """One cell of somebody's table of speed and memory."""

    source: str
    model: str
    metric: str
    """steps_per_s or memory."""
    length: int
    value: float
    unit: str
    remark: str
    setting: str
    differs_from_ours: str


def published_costs() -> list[PublishedCost]:
    """All rows, in the order of the file."""
    return [
        PublishedCost(
            source=row["source"],
            model=row["model"],
            metric=row["metric"],
            length=int(row["length"]),
            value=float(row["value"]),
            unit=row["unit"],
            remark=row["remark"],
            setting=row["setting"],
            differs_from_ours=row["differs_from_ours"],
        )
        for row in _rows("efficiency.csv")
    ]


@dataclass(frozen=True)
class PublishedTraining:
    """What training on one task took somebody."""

    source: str
    name_there: str
    task: str
    hours: float
    peak_gb: float
    setting: str
    differs_from_ours: str


def published_training() -> list[PublishedTraining]:
    """All rows, in the order of the file."""
    return [
        PublishedTraining(
            row["source"],
            row["name_there"],
            row["task"],
            float(row["hours"]),
            float(row["peak_gb"]),
            row["setting"],
            row["differs_from_ours"],
        )
        for row in _rows("training_cost.csv")
    ]


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = importlib.resources.files("lra_bench.published").joinpath(name).read_text("utf-8")
    yield from csv.DictReader(text.splitlines())
