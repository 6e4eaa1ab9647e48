"""Intervals and tests for scores and step times.

Everything takes plain sequences or arrays and returns builtin types. Nothing here draws randomness
without an explicit seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from lra_bench.errors import require

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A closed interval at a stated confidence level."""

    low: float
    high: float
    level: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class SeedSummary:
    """A score over seeds. `sd` and `interval` are None with a single seed: one run shows no spread."""

    seeds: int
    mean: float
    sd: float | None
    """Sample standard deviation (n - 1) between seeds."""
    interval: Interval | None
    """Student's t interval of the mean, for the spread between seeds alone."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Score of A less score of B on the same examples."""

    difference: float
    interval: Interval
    p_value: float
    """Two-sided bootstrap p-value, never below 1 / (resamples + 1)."""
    examples: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _check_level(level: float) -> None:
    require(0.0 < level < 1.0, "level", level, "between 0 and 1, both excluded")


def wilson_interval(correct: int, n: int, level: float = 0.95) -> Interval:
    """Score interval of a binomial share; stays within [0, 1] and works at 0 and n.

    Source: Wilson, 'Probable inference, the law of succession, and statistical inference', JASA 1927.
    It covers the choice of test examples only; the spread between seeds is another matter.
    """
    require(n >= 1, "n", n, "at least 1")
    require(0 <= correct <= n, "correct", correct, f"from 0 to n={n}")
    _check_level(level)
    z = float(special.ndtri(0.5 + level / 2))
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the bound is 0 or 1 exactly; subtraction leaves a residue there.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return Interval(low, high, level)


def binomial_p_above(correct: int, n: int, p0: float) -> float:
    """P(X >= correct) for X ~ Binomial(n, p0): the exact one-sided test of 'no better than p0'.

    p0 is chance, or a control's accuracy taken as known.
    """
    require(n >= 1, "n", n, "at least 1")
    require(0 <= correct <= n, "correct", correct, f"from 0 to n={n}")
    require(0.0 <= p0 <= 1.0, "p0", p0, "from 0 to 1")
    if correct == 0:
        return 1.0
    # The upper tail is a regularised incomplete beta function: Abramowitz and Stegun, 26.5.24.
    return float(special.betainc(correct, n - correct + 1, p0))


def interval_over_seeds(scores: Sequence[float], level: float = 0.95) -> SeedSummary:
    """Mean, sample standard deviation and Student's t interval over seeds of one cell.

    With few seeds the interval is wide, and rightly so: for two seeds the factor is 12.7.
    """
    values = _finite_vector(scores, "scores")
    _check_level(level)
    count = values.size
    mean = float(values.mean())
    if count == 1:
        return SeedSummary(1, mean, None, None)
    sd = float(values.std(ddof=1))
    half = float(special.stdtrit(count - 1, 0.5 + level / 2)) * sd / math.sqrt(count)
    return SeedSummary(count, mean, sd, Interval(mean - half, mean + half, level))


def interval_over_seeds_and_examples(
    correct: ArrayLike, *, seed: int = 0, level: float = 0.95, resamples: int = 2_000
) -> Interval:
    """Interval of mean accuracy for new seeds and new examples alike, by a two-way bootstrap.

    correct: (seeds, examples) of 0 and 1, the same examples in each row. Rows and columns are
    resampled independently, since all seeds share the examples: Owen, 'The pigeonhole bootstrap',
    Annals of Applied Statistics 2007. The variance of that bootstrap is at least the true one
    up to terms in 1/seeds, and at most about three times; the interval errs on the wide side. From a
    single seed it can say nothing about seeds and covers examples only.
    """
    matrix = np.asarray(correct, dtype=np.float64)
    require(matrix.ndim == 2 and matrix.size > 0, "correct", matrix.shape, "an array (seeds, examples)")
    _check_level(level)
    require(resamples >= 100, "resamples", resamples, "at least 100")
    rng = np.random.default_rng(seed)
    seeds, examples = matrix.shape
    # Means of row weights times matrix times column weights: O(seeds x examples) per resample.
    row_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = np.empty(resamples)
    for index in range(resamples):
        chosen = rng.integers(0, examples, size=examples)
        column_weights = np.bincount(chosen, minlength=examples) / examples
        means[index] = row_weights[index] @ (matrix @ column_weights)
    return _percentile_interval(means, level)


def paired_bootstrap_difference(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Difference:
    """Difference of two models' accuracy on the same examples, by the paired bootstrap.

    correct_a, correct_b: (examples,) or (seeds, examples), of 0 and 1; rows are averaged over seeds
    first, so that seeds count as fixed. Percentile interval, and a two-sided p-value
    from the share of resamples on either side of zero: Efron and Tibshirani, 'An introduction to
    the bootstrap' (1993), chapters 13 and 15. The unpaired difference of two Wilson intervals
    would ignore that both models meet the same hard examples.
    """
    a, b = (_per_example(name, x) for name, x in (("correct_a", correct_a), ("correct_b", correct_b)))
    require(a.size == b.size, "correct_b", b.size, f"as many examples as correct_a, {a.size}")
    _check_level(level)
    require(resamples >= 100, "resamples", resamples, "at least 100")
    gaps = a - b
    # Resampling examples is a multinomial draw over the distinct gaps: exact, and fast for any n.
    values, counts = np.unique(gaps, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(gaps.size, counts / gaps.size, size=resamples)
    means = drawn @ values / gaps.size
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p_value = min(1.0, 2 * (tail + 1) / (resamples + 1))
    return Difference(float(gaps.mean()), _percentile_interval(means, level), p_value, int(gaps.size))


def median_interval(samples: Sequence[float], level: float = 0.95) -> Interval:
    """Distribution-free interval of the median between two order statistics.

    The number of samples below the median is Binomial(n, 1/2), so the interval from the k-th
    smallest to the k-th largest covers it with probability 1 - 2 P(B < k): David and Nagaraja, 'Order
    statistics' (2003), section 7.1. `level` in the result is what is reached: at least the one
    asked for, except with five samples or fewer, where all of them give 1 - 2^(1 - n). Assumes
    independent samples, which steps of one process are only roughly.
    """
    values = np.sort(_finite_vector(samples, "samples"))
    _check_level(level)
    n = values.size
    ranks = np.arange(n + 1)
    # P(B <= k - 1) for k = 0..n; largest k that leaves at most (1 - level) / 2 in each tail.
    lower_tail = np.concatenate(([0.0], special.bdtr(ranks[:-1], n, 0.5)))
    allowed = np.flatnonzero(lower_tail <= (1 - level) / 2)
    k = max(1, int(allowed[-1]))
    reached = max(0.0, 1 - 2 * float(lower_tail[k]))
    return Interval(float(values[k - 1]), float(values[n - k]), reached)


def _percentile_interval(means: FloatArray, level: float) -> Interval:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def _finite_vector(values: Sequence[float], name: str) -> FloatArray:
    vector = np.asarray(values, dtype=np.float64)
    require(vector.ndim == 1 and vector.size >= 1, name, vector.shape, "a sequence of at least one number")
    require(bool(np.isfinite(vector).all()), name, "[...]", "finite numbers only")
    return vector


def _per_example(name: str, values: ArrayLike) -> FloatArray:
    """(examples,) or (seeds, examples) -> (examples,), averaged over seeds."""
    array = np.asarray(values, dtype=np.float64)
    require(array.ndim in (1, 2) and array.size > 0, name, array.shape, "(examples,) or (seeds, examples)")
    return array if array.ndim == 1 else array.mean(axis=0)
