"""Which of several models differ on the same test examples, and which can't be told apart.

Every model is scored on the same examples, with one or several seeds. Differences are resampled over both:
examples are drawn again for all models together, which pairs them, and seeds for each model apart (Owen, 'The
pigeonhole bootstrap', Annals of Applied Statistics 2007, for the two-way scheme). p-values are corrected for
the number of pairs by Holm's step-down method ('A simple sequentially rejective multiple test procedure',
Scandinavian Journal of Statistics 1979). Models that can't be told apart carry a letter in common, as in
Piepho, 'An algorithm for a letter-based representation of all-pairwise comparisons' (Journal of
Computational and Graphical Statistics 2004).
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lra_bench.errors import require
from lra_bench.stats import FloatArray, Interval

RESAMPLES = 2_000
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
    """Two-sided, from the bootstrap; never below 1 / (resamples + 1)."""
    adjusted_p_value: float
    """Corrected for all pairs that were compared."""

    @property
    def differs(self) -> bool:
        """At 5 %, with all pairs in mind."""
        return self.adjusted_p_value <= 1 - LEVEL


def compare(
    correct: Mapping[str, ArrayLike], *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Comparison]:
    """All pairs of models.

    Args:
        correct: by model, (seeds, examples) of 0 and 1, or (examples,); the same examples in the same order
            for all. A model with one seed says nothing about its other seeds: its interval is too narrow.

    Raises:
        OptionError: models with different numbers of examples.
    """
    require(resamples >= 100, "resamples", resamples, "at least 100")
    matrices = {name: np.atleast_2d(np.asarray(given, dtype=np.float64)) for name, given in correct.items()}
    sizes = {name: matrix.shape[1] for name, matrix in matrices.items()}
    require(len(set(sizes.values())) <= 1, "correct", sizes, "the same number of examples for all models")
    means = _resampled_means(matrices, seed, resamples)
    pairs = list(itertools.combinations(matrices, 2))
    tail = (1 - LEVEL) / 2
    p_values, intervals = [], []
    for first, second in pairs:
        gaps = means[first] - means[second]
        below, above = int((gaps <= 0).sum()), int((gaps >= 0).sum())
        p_values.append(min(1.0, 2 * (min(below, above) + 1) / (resamples + 1)))
        low, high = np.quantile(gaps, [tail, 1 - tail])
        intervals.append(Interval(float(low), float(high), LEVEL))
    return [
        Comparison(
            first,
            second,
            float(matrices[first].mean() - matrices[second].mean()),
            interval,
            p_value,
            adjusted,
        )
        for (first, second), interval, p_value, adjusted in zip(
            pairs, intervals, p_values, holm(p_values), strict=True
        )
    ]


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


def _resampled_means(matrices: Mapping[str, FloatArray], seed: int, resamples: int) -> dict[str, FloatArray]:
    """Mean accuracies, (resamples,) by model: the same examples for all, seeds of each apart."""
    rng = np.random.default_rng(seed)
    names = list(matrices)
    stacked = np.concatenate([matrices[name] for name in names])  # (all seeds, examples)
    examples = stacked.shape[1]
    seed_weights = []
    for name in names:
        seeds = matrices[name].shape[0]
        seed_weights.append(rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds)
    starts = np.cumsum([0, *(matrices[name].shape[0] for name in names)])
    means = {name: np.empty(resamples) for name in names}
    for index in range(resamples):
        counts = np.bincount(rng.integers(0, examples, size=examples), minlength=examples)
        by_seed = stacked @ (counts / examples)  # (all seeds,)
        for place, name in enumerate(names):
            own = by_seed[starts[place] : starts[place + 1]]
            means[name][index] = seed_weights[place][index] @ own
    return means
