"""From which length on a model pays: where it overtakes fused softmax attention, in time and in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lra_bench.bench.analysis import Ratio, bytes_ratio, time_ratio
from lra_bench.bench.records import REFERENCE, BenchRecord, Session
from lra_bench.records import Status

Kind = Literal["crossing", "throughout", "not within range", "unknown"]
Quantity = Literal["time", "bytes"]
NO_ROOM: Mapping[Quantity, tuple[Status, ...]] = {"time": ("oom", "timeout"), "bytes": ("oom",)}
"""Endings that are an answer where there is no ratio. Who ran out of time may still be the smaller one."""


@dataclass(frozen=True)
class BreakEven:
    """Where a ratio to the reference falls below 1 and stays there, over the lengths of a session."""

    kind: Kind
    """throughout: already at the shortest length. not within range: not even at the longest. Both of the
    lengths at which the two could be compared."""
    length: float | None = None
    """Of a crossing, in tokens: interpolated between two measured lengths, both axes logarithmic."""
    between: tuple[int, int] | None = None
    certain: bool = True
    """The intervals on both sides of a crossing exclude 1, or all of them do where it is below throughout;
    bytes have none and are always certain."""
    compared: tuple[int, int] | None = None
    """The shortest and the longest length at which there is a ratio, or only one of the two could be run."""


@dataclass(frozen=True)
class _Point:
    length: int
    ratio: Ratio | None
    """None where only one of the two could be run: then `below` says which."""
    below: bool

    @property
    def certain(self) -> bool:
        if self.ratio is None or self.ratio.low == self.ratio.high:  # bytes: exact, even where they are equal
            return True
        return self.ratio.high < 1 if self.below else self.ratio.low > 1


def break_even(session: Session, label: str, compiled: bool, quantity: Quantity) -> BreakEven:
    """Of one model. Where the reference did not fit and the model did, it pays, and the other way round."""
    points = []
    for length in session.record.lengths:
        cell = session.find(label, length, compiled)
        reference = session.find(REFERENCE, length, compiled)
        point = _point(session, cell, reference, quantity) if cell and reference else None
        if point is not None:
            points.append(point)
    if not points:
        return BreakEven("unknown")
    compared = (points[0].length, points[-1].length)
    if not points[-1].below:
        return BreakEven("not within range", certain=points[-1].certain, compared=compared)
    first = len(points) - 1
    while first and points[first - 1].below:
        first -= 1
    if first == 0:
        return BreakEven("throughout", certain=all(one.certain for one in points), compared=compared)
    above, below = points[first - 1], points[first]
    between = (above.length, below.length)
    certain = above.certain and below.certain
    if above.ratio is None or below.ratio is None:
        return BreakEven("crossing", None, between, certain, compared)
    # Where the straight line between (log n, log ratio) of the two meets 0.
    start, end = math.log(above.ratio.value), math.log(below.ratio.value)
    share = start / (start - end)
    length = above.length * (below.length / above.length) ** share
    return BreakEven("crossing", length, between, certain, compared)


def _point(session: Session, cell: BenchRecord, reference: BenchRecord, quantity: Quantity) -> _Point | None:
    if quantity == "time":
        ratio = time_ratio(cell)
    else:
        quotient = bytes_ratio(session, cell)
        ratio = Ratio(quotient, quotient, quotient, 1.0, 0) if quotient is not None else None
    if ratio is not None:
        return _Point(cell.length, ratio, ratio.value < 1)
    if cell.status == "ok" and reference.status in NO_ROOM[quantity]:
        return _Point(cell.length, None, below=True)
    if cell.status in NO_ROOM[quantity] and reference.status == "ok":
        return _Point(cell.length, None, below=False)
    return None
