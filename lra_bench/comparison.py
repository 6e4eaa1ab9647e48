"""Which of several models differ on the same test examples, and which can't be told apart.

Every model is scored on the same examples, with one or several seeds. A difference of means has two sources
of error: which examples were drawn, paired because they are the same for both models, and which seeds, of
each model apart. Their variances add, each with its own degrees of freedom, and the ratio to the standard
error is compared with Student's t (Satterthwaite, 'An approximate distribution of estimates of variance
components', Biometrics Bulletin 1946; Welch, Biometrika 1947, for two samples of seeds). What is random in a
single answer is in both variances, so the test errs on the careful side.

p-values are corrected for the number of pairs by Holm's step-down method ('A simple sequentially rejective
multiple test procedure', Scandinavian Journal of Statistics 1979). They must not end at the resolution of a
bootstrap: over 276 pairs of 24 models, 2 / 2,001 is already corrected to 0.28. Models that can't be told
apart carry a letter in common, as in Piepho, 'An algorithm for a letter-based representation of all-pairwise
comparisons' (Journal of Computational and Graphical Statistics 2004).
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from lra_bench.errors import require
from lra_bench.stats import FloatArray, Interval

LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """Accuracy of one model less that of another, on the same examples."""

    first: str
    second: str
    difference: float
    interval: Interval
    """Of this pair alone."""
    p_value: float
    """Two-sided."""
    adjusted_p_value: float
    """Corrected for all pairs that were compared."""

    @property
    def differs(self) -> bool:
        """At 5 %, with all pairs in mind."""
        return self.adjusted_p_value <= 1 - LEVEL


def compare(correct: Mapping[str, ArrayLike]) -> list[Comparison]:
    """All pairs of models.

    Args:
        correct: by model, (seeds, examples) of 0 and 1, or (examples,); the same examples in the same order
            for all. A model with one seed says nothing about its other seeds: its interval is too narrow.

    Raises:
        OptionError: models with different numbers of examples, or fewer than two.
    """
    matrices = {name: np.atleast_2d(np.asarray(given, dtype=np.float64)) for name, given in correct.items()}
    sizes = {name: matrix.shape[1] for name, matrix in matrices.items()}
    require(len(set(sizes.values())) <= 1, "correct", sizes, "the same number of examples for all models")
    require(all(size >= 2 for size in sizes.values()), "correct", sizes, "two examples or more")
    pairs = list(itertools.combinations(matrices, 2))
    found = [_difference(matrices[first], matrices[second]) for first, second in pairs]
    adjusted = holm([p_value for _, _, p_value in found])
    return [
        Comparison(first, second, gap, interval, p_value, corrected)
        for (first, second), (gap, interval, p_value), corrected in zip(pairs, found, adjusted, strict=True)
    ]


def _difference(first: FloatArray, second: FloatArray) -> tuple[float, Interval, float]:
    """Mean of (seeds, examples) less that of another, its interval and its two-sided p-value."""
    by_example = first.mean(0) - second.mean(0)  # (examples,)
    gap = float(by_example.mean())
    parts = [(by_example.var(ddof=1) / by_example.size, by_example.size - 1)]
    for matrix in (first, second):
        seeds = matrix.shape[0]
        if seeds > 1:
            parts.append((matrix.mean(1).var(ddof=1) / seeds, seeds - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return gap, Interval(gap, gap, LEVEL), float(gap == 0)
    freedom = variance**2 / sum(part**2 / own for part, own in parts)
    error = math.sqrt(variance)
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    p_value = 2 * float(special.stdtr(freedom, -abs(gap) / error))
    return gap, Interval(gap - half, gap + half, LEVEL), p_value


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that the chance of any false rejection stays at the level: Holm 1979."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def letters(names: Sequence[str], comparisons: Sequence[Comparison]) -> dict[str, str]:
    """'a', 'ab' ... for each of `names`, best first: two models differ if they share no letter.

    A letter is a largest set of models of which no two differ. Letters go by the place of their first member.
    """
    known = {frozenset((one.first, one.second)): one.differs for one in comparisons}

    def alike(first: str, second: str) -> bool:
        return not known.get(frozenset((first, second)), False)

    groups: list[frozenset[str]] = []
    for name in names:  # largest sets, grown one model at a time (Piepho's insertion and absorption)
        grown = {group | {name} for group in groups if all(alike(name, other) for other in group)}
        grown |= {
            frozenset(other for other in group if alike(name, other)) | {name}
            for group in groups
            if not all(alike(name, other) for other in group)
        }
        kept = {group for group in groups if not all(alike(name, other) for other in group)}
        candidates = kept | (grown or {frozenset({name})})
        groups = [one for one in candidates if not any(one < other for other in candidates)]
    place = {name: index for index, name in enumerate(names)}
    groups.sort(key=lambda group: sorted(place[name] for name in group))
    labels = [_label(index) for index in range(len(groups))]
    return {
        name: "".join(label for label, group in zip(labels, groups, strict=True) if name in group)
        for name in names
    }


def _label(index: int) -> str:
    """a, b, ..., z, a1, b1, ..."""
    turn, place = divmod(index, len(string.ascii_lowercase))
    return string.ascii_lowercase[place] + (str(turn) if turn else "")
