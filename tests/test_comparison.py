"""Comparisons of models: against hand-made cases, and by how often they are wrong."""

import itertools

import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm, ttest_ind

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
    (found,) = compare({"a": a, "b": b})
    gaps = a.astype(float) - b
    half = norm.ppf(0.975) * gaps.std() / np.sqrt(gaps.size)
    assert found.difference == pytest.approx(gaps.mean())
    assert found.interval.low == pytest.approx(gaps.mean() - half, abs=0.002 * half)
    assert found.interval.high == pytest.approx(gaps.mean() + half, abs=0.002 * half)
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


def test_where_only_seeds_vary_it_is_welchs_test():
    levels = {"a": (0.61, 0.64, 0.60), "b": (0.72, 0.70, 0.75, 0.71)}
    (found,) = compare({name: np.outer(given, np.ones(50)) for name, given in levels.items()})
    welch = ttest_ind(*levels.values(), equal_var=False)
    assert found.p_value == pytest.approx(welch.pvalue)
    expected = welch.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))


def test_any_number_of_models_can_be_told_apart():
    """276 pairs: a p-value that ends at 1 in 1,000 would tell none apart."""
    rng = np.random.default_rng(3)
    levels = {f"good {number}": 0.99 for number in range(12)} | {
        f"bad {number}": 0.06 for number in range(12)
    }
    models = {name: np.stack([rng.random(500) < level for _ in range(3)]) for name, level in levels.items()}
    for one in compare(models):
        assert one.differs == (one.first.split()[0] != one.second.split()[0]), one


def test_seeds_that_overlap_by_luck_are_no_difference():
    """Whole runs fail or succeed: three seeds of each often part, though nothing differs."""
    false = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        models = {
            name: np.stack([rng.random(400) < level for level in rng.uniform(0.3, 0.9, size=3)])
            for name in "ab"
        }
        false += compare(models)[0].differs
    assert false <= 20, "5 % of 200 is 10"


def test_models_that_are_the_same_are_rarely_told_apart():
    false = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        models = {name: np.stack([rng.random(300) < 0.6 for _ in range(3)]) for name in "abcd"}
        false += any(one.differs for one in compare(models))
    # 5 % of 60 is 3; the scheme errs on the wide side.
    assert false <= 6


def test_examples_must_be_the_same():
    with pytest.raises(OptionError, match="same number of examples"):
        compare({"a": np.ones(3), "b": np.ones(4)})
