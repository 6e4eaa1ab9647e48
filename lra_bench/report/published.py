"""Accuracies that others published, for orientation beside our own; never ranked with them."""

from __future__ import annotations

import csv
import importlib.resources
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedScore:
    """One cell of somebody's table."""

    source: str
    model: str
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
    text = importlib.resources.files("lra_bench.published").joinpath("accuracy.csv").read_text("utf-8")
    return [
        PublishedScore(
            row["source"],
            row["model"],
            row["task"],
            float(row["value"]) if row["value"] else None,
            row["remark"],
            row["setting"],
            row["differs_from_ours"],
        )
        for row in csv.DictReader(text.splitlines())
        if row["model"] == model
    ]
