"""Accuracy against cost: which models no other is both cheaper and better than."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lra_bench.bench.analysis import bytes_ratio, time_ratio
from lra_bench.bench.records import Session
from lra_bench.report.scoring import TaskScore
from lra_bench.report.speed import speed_length

Cost = Literal["time", "memory"]
COSTS: tuple[Cost, ...] = ("time", "memory")


@dataclass(frozen=True)
class Trade:
    """One model on one task: what it reached, and what a step of it costs relative to the reference."""

    label: str
    accuracy: float
    low: float
    high: float
    seeds: int
    time: float
    memory: float

    def cost(self, cost: Cost) -> float:
        return self.time if cost == "time" else self.memory

    def other(self, cost: Cost) -> float:
        """The cost that is not `cost`."""
        return self.memory if cost == "time" else self.time


def trades(
    scored: Iterable[tuple[str, Sequence[TaskScore]]], session: Session, *, compiled: bool
) -> dict[str, list[Trade]]:
    """By task column: every model that has both a score and a measurement.

    scored: label and scores of each model; controls have no step, and don't belong here.
    """
    length = speed_length(session, compiled)
    found: dict[str, list[Trade]] = {}
    for label, scores in scored:
        cell = session.find(label, length, compiled)
        time = time_ratio(cell) if cell is not None else None
        memory = bytes_ratio(session, cell) if cell is not None else None
        if time is None or memory is None:
            continue
        for score in scores:
            if score.summary is not None:
                one = score.summary
                trade = Trade(label, one.mean, one.low, one.high, one.seeds, time.value, memory)
                found.setdefault(score.column, []).append(trade)
    return found


def pareto_front(models: Sequence[Trade], cost: Cost) -> list[Trade]:
    """Those that no other matches in both and beats in one, the cheapest first. By means: a front does not
    say that its differences could not be chance."""
    front: list[Trade] = []
    for one in sorted(models, key=lambda trade: (trade.cost(cost), -trade.accuracy, trade.label)):
        if not front or one.accuracy > front[-1].accuracy:
            front.append(one)
    return front
