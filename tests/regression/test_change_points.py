"""Steps are found where they are, at the rate of false alarms that is stated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from lra_bench.regression.change_points import exact_steps, noise, noisy_steps, segment

LEAST = math.log(1.05)
"""5 %, in logarithms."""


def noisy(seed: int, count: int, sd: float = 0.03) -> np.ndarray:
    return sd * np.random.default_rng(seed).standard_normal(count)


def segmentations(count: int) -> Iterator[tuple[int, ...]]:
    """Bounds of all pieces of two or more."""
    if count >= 2:
        yield (0, count)
    for last in range(2, count - 1):
        yield from ((*rest, count) for rest in segmentations(last))


@pytest.mark.parametrize("seed", range(12))
def test_the_segmentation_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(rng.integers(2, 13)) + 3 * (rng.random() < 0.5) * np.repeat([0, 1], 8)[:1]
    values[len(values) // 2 :] += 2.5
    penalty = float(rng.uniform(0.3, 5))

    def cost(bounds: tuple[int, ...]) -> float:
        pieces = [values[start:stop] for start, stop in pairwise(bounds)]
        return sum(np.abs(one - np.median(one)).sum() for one in pieces) + penalty * (len(pieces) - 1)

    found = (0, *segment(values.tolist(), penalty), len(values))
    assert cost(found) == pytest.approx(min(map(cost, segmentations(len(values)))))


@pytest.mark.parametrize("sd", [0.03, 0.2])
def test_false_alarms_in_noise_alone_stay_below_five_percent(sd: float) -> None:
    lengths = (6, 12, 24, 40)
    found = [noisy_steps(noisy(seed, lengths[seed % 4], sd).tolist(), LEAST)[0] for seed in range(200)]
    assert sum(map(bool, found)) <= 10


def test_a_step_of_a_fifth_is_found_at_its_place() -> None:
    right = 0
    for seed in range(100):
        place = 3 + seed % 7  # three points or more on either side of 12
        values = noisy(1000 + seed, 12)
        values[place:] += math.log(1.2)
        right += noisy_steps(values.tolist(), LEAST)[0] == [place]
    assert right >= 93


def test_two_steps_are_two() -> None:
    values = noisy(5, 24)
    values[8:16] += math.log(1.3)
    assert noisy_steps(values.tolist(), LEAST) == ([8, 16], False)


@pytest.mark.parametrize("place", [0, 1, 6, 10])
def test_a_lone_outlier_is_no_step(place: int) -> None:
    values = noisy(3, 12)
    values[place] += math.log(3)
    assert noisy_steps(values.tolist(), LEAST) == ([], False)


def test_one_point_at_the_end_is_possible_and_two_are_a_step() -> None:
    values = noisy(3, 13)
    values[11:] += math.log(1.4)
    assert noisy_steps(values[:12].tolist(), LEAST) == ([], True)
    assert noisy_steps(values.tolist(), LEAST) == ([11], False)


def test_a_clear_step_that_is_too_small_to_matter_is_none() -> None:
    values = noisy(4, 20, sd=0.001)
    values[10:] += math.log(1.03)
    assert noisy_steps(values.tolist(), LEAST)[0] == []
    assert noisy_steps(values.tolist(), math.log(1.02))[0] == [10]


def test_what_repeats_to_the_last_digit_has_steps_as_well() -> None:
    assert noisy_steps([1.0] * 6 + [0.9] * 2, 0.02) == ([6], False)
    assert noisy_steps([1.0] * 6, 0.02) == ([], False)


def test_the_noise_is_that_around_the_levels() -> None:
    values = noisy(6, 400)
    values[200:] += 1.0
    assert noise(values.tolist()) == pytest.approx(0.03, rel=0.15)


def test_any_change_of_what_is_exact_is_a_step() -> None:
    assert exact_steps([5, 5, 6, 6, 5]) == [2, 4]
    assert exact_steps(["a", "b"]) == [1]
    assert exact_steps([1.0, 1.0 + 6e-6, 1.0 + 1.2e-5], 1e-5) == [2]  # small ones add up
    assert exact_steps([]) == []
