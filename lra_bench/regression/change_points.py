"""Where a metric changed for good: steps of a piecewise constant series.

Exact series need no statistics: any change is a step. For noisy ones the sum over pieces of absolute
deviations from each piece's median, plus a penalty for each step, is minimised over all segmentations (an
L1 Potts functional, as in asv; Friedrich, Kempe, Liebscher and Winkler, 'Complexity penalized
M-estimation', JCGS 17, 2008). The penalty is a multiple of the noise, which is estimated from differences
of neighbours, so that a step counts once only. A piece has two points or more: with absolute deviations
a lone outlier gains nothing from a piece that it shares, and so is no step, however far out it is.

ruptures finds the same minimum (`Pelt` with the cost l1), but its releases exclude Python 3.14 and it takes a
second to import; what is needed of it here is a dozen lines, and tests hold them to all segmentations.
"""

from __future__ import annotations

import math
import statistics
from bisect import insort
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lra_bench.stats import FloatArray

MIN_POINTS = 2
"""Of a level."""
PENALTY = 6.5
"""In standard deviations of the noise. Of series of independent normal noise alone, of 4 to 300 points, 1 to
4 % then have a step; one of s standard deviations needs about PENALTY / s points on its shorter side."""
FLOOR = 1 / 8
"""Least noise, as a share of the least change of interest: what repeats to the last digit shows none."""


def exact_steps(values: Sequence[float | str], tolerance: float = 0.0) -> list[int]:
    """Indices at which a new value begins; a relative difference up to `tolerance` is none.

    A value is compared with the first of its level, so that small changes add up to one.
    """
    steps: list[int] = []
    level = values[0] if values else 0.0
    for index, value in enumerate(values):
        if not _alike(level, value, tolerance):
            steps.append(index)
            level = value
    return steps


def _alike(one: float | str, other: float | str, tolerance: float) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(other - one) <= tolerance * max(abs(one), abs(other))


def noisy_steps(values: Sequence[float], min_change: float) -> tuple[list[int], bool]:
    """Indices at which a new level begins, and whether the last point alone may be the first of another.

    values: finite, in units in which the noise is alike at all levels (logarithms of times).
    min_change: least difference of two levels' medians that is of interest, in the same units.
    """
    if len(values) < 2:
        return [], False
    penalty = PENALTY * max(noise(values), FLOOR * min_change)
    steps = segment(values, penalty)
    while steps:
        heights = [abs(after - before) for before, after in pairwise(levels(values, steps))]
        least = min(range(len(heights)), key=heights.__getitem__)
        if heights[least] >= min_change:
            break
        del steps[least]  # its two levels are one, whose median the neighbours are then compared with
    rest = values[steps[-1] if steps else 0 : -1]
    apart = abs(values[-1] - statistics.median(rest))
    # One more point like the last would pay for a step.
    return steps, apart >= min_change and MIN_POINTS * apart > penalty


def noise(values: Sequence[float]) -> float:
    """Standard deviation of normal noise around the levels, from the median difference of neighbours."""
    median = statistics.median(abs(after - before) for before, after in pairwise(values))
    normal = 1.4826  # standard deviations in a median absolute deviation
    return normal * median / math.sqrt(2)


def levels(values: Sequence[float], steps: Sequence[int]) -> list[float]:
    """The median of each piece."""
    return [statistics.median(values[start:stop]) for start, stop in pairwise((0, *steps, len(values)))]


def segment(values: Sequence[float], penalty: float) -> list[int]:
    """Starts of all pieces but the first in the segmentation of least cost; O(n^2 log n)."""
    count = len(values)
    costs = _costs(values)
    best = np.full(count + 1, np.inf)
    best[0] = -penalty
    origin = np.zeros(count + 1, np.int64)
    for stop in range(MIN_POINTS, count + 1):
        candidates = best[:stop] + costs[:stop, stop] + penalty
        origin[stop] = np.argmin(candidates)
        best[stop] = candidates[origin[stop]]
    steps: list[int] = []
    stop = count
    while stop > 0:
        stop = int(origin[stop])
        steps.append(stop)
    return steps[-2::-1]  # without the start of the first piece


def _costs(values: Sequence[float]) -> FloatArray:
    """(n + 1, n + 1): absolute deviations from the median of values[start:stop], summed; inf if too short."""
    count = len(values)
    costs = np.full((count + 1, count + 1), np.inf)
    for start in range(count):
        ordered: list[float] = []
        cost = 0.0
        for stop in range(start + 1, count + 1):
            value = values[stop - 1]
            if ordered:
                # Any point between the two middle values is a median; a new value adds its distance to them.
                low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
                cost += max(low - value, value - high, 0.0)
            insort(ordered, value)
            if len(ordered) >= MIN_POINTS:
                costs[start, stop] = cost
    return costs
