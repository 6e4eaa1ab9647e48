"""Comparisons of models: against hand-made cases, and by how often they are wrong."""

import itertools

import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from lra_bench.comparison import Comparison, compare, holm, letters
from lra_bench.errors import OptionError
from lra_bench.stats import Interval


def made(pairs_that_differ, names):
    """Comparisons in which just these pairs differ."""
    return [
        Comparison(a, b, 0.0, Interval(0, 0, 0.95), 0.5, 0.01 if (a + b) in pairs_that_differ else 1.0)
        for a, b in itertools.combinations(names, 2)
    ]


def test_holm_is_the_textbooks():
    # 4 x 0.01, 3 x 0.02, 2 x 0.03, 1 x 0.04, each no smaller than the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_never_milder_than_the_false_discovery_rate():
    p_values = np.random.default_rng(0).uniform(size=20) ** 3
    assert (np.array(holm(p_values.tolist())) >= false_discovery_control(p_values) - 1e-12).all()


def test_models_share_a_letter_exactly_where_they_do_not_differ():
    rng = np.random.default_rng(0)
    names = "ABCDEF"
    for _ in range(200):
        pairs = [a + b for a, b in itertools.combinations(names, 2)]
        differ = {pair for pair in pairs if rng.uniform() < 0.5}
        found = letters(list(names), made(differ, names))
        for a, b in itertools.combinations(names, 2):
            assert bool(set(found[a]) & set(found[b])) == (a + b not in differ), (found, differ)


def test_letters_of_a_chain():
    # A and C differ, B is like both.
    assert letters(list("ABC"), made({"AC"}, "ABC")) == {"A": "a", "B": "ab", "C": "b"}
    assert letters(list("AB"), made(set(), "AB")) == {"A": "a", "B": "a"}
    assert letters(list("AB"), made({"AB"}, "AB")) == {"A": "a", "B": "b"}


def test_the_difference_of_two_models_with_one_seed_has_the_textbooks_interval():
    rng = np.random.default_rng(1)
    a, b = rng.random(4000) < 0.8, rng.random(4000) < 0.75
    (found,) = compare({"a": a, "b": b}, resamples=4000)
    gaps = a.astype(float) - b
    half = norm.ppf(0.975) * gaps.std() / np.sqrt(gaps.size)
    assert found.difference == pytest.approx(gaps.mean())
    assert found.interval.low == pytest.approx(gaps.mean() - half, abs=0.15 * half)
    assert found.interval.high == pytest.approx(gaps.mean() + half, abs=0.15 * half)
    assert found.differs


def test_pairing_sees_what_independent_intervals_do_not():
    # Both fail on the same hard half; the second fails on 20 easy ones besides.
    easy = np.arange(2000) < 1000
    worse = easy & (np.arange(2000) >= 20)
    (found,) = compare({"better": easy, "worse": worse})
    assert found.difference == pytest.approx(0.01)
    assert found.differs


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(2)
    steady = np.stack([rng.random(1000) < 0.7 for _ in range(5)])
    wild = np.stack([rng.random(1000) < level for level in (0.5, 0.6, 0.7, 0.8, 0.9)])
    base = np.stack([rng.random(1000) < 0.6 for _ in range(5)])
    found = {one.first: one.interval for one in compare({"steady": steady, "wild": wild, "base": base})[1:]}
    assert found["wild"].high - found["wild"].low > 3 * (found["steady"].high - found["steady"].low)


def test_models_that_are_the_same_are_rarely_told_apart():
    false = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        models = {name: np.stack([rng.random(300) < 0.6 for _ in range(3)]) for name in "abcd"}
        false += any(one.differs for one in compare(models, seed=seed, resamples=400))
    # 5 % of 60 is 3; the scheme errs on the wide side.
    assert false <= 6


def test_examples_must_be_the_same():
    with pytest.raises(OptionError, match="same number of examples"):
        compare({"a": np.ones(3), "b": np.ones(4)})
