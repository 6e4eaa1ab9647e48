"""Statistics against other implementations, brute force and simulation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from lra_bench.errors import OptionError
from lra_bench.stats import (
    binomial_p_above,
    interval_over_seeds,
    interval_over_seeds_and_examples,
    median_interval,
    paired_bootstrap_difference,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("correct", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (1, 2_000), (1_234, 2_000), (19_999, 20_000)]
)
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_wilson_equals_scipy(correct, n, level):
    expected = scipy.stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    ours = wilson_interval(correct, n, level)
    assert ours.low == pytest.approx(expected.low, abs=1e-12)
    assert ours.high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= ours.low <= correct / n <= ours.high <= 1


def test_wilson_solves_its_defining_equation():
    # The ends are where the score test is just rejected: |p - share| = z sqrt(p (1 - p) / n).
    correct, n = 37, 120
    interval = wilson_interval(correct, n)
    for p in (interval.low, interval.high):
        assert abs(p - correct / n) == pytest.approx(1.959963984540054 * math.sqrt(p * (1 - p) / n))


def test_wilson_covers_as_promised():
    # Exact coverage, summed over all outcomes; near the nominal level away from 0 and 1.
    n = 200
    for p in (0.1, 0.37, 0.5, 0.9):
        covered = sum(
            scipy.stats.binom.pmf(k, n, p)
            for k in range(n + 1)
            if wilson_interval(k, n).low <= p <= wilson_interval(k, n).high
        )
        assert 0.93 < covered < 0.97


def test_wilson_bounds_are_exact_at_the_ends():
    assert wilson_interval(0, 10).low == 0.0
    assert wilson_interval(10, 10).high == 1.0


@pytest.mark.parametrize(("correct", "n", "p0"), [(0, 10, 0.3), (10, 10, 0.3), (7, 10, 0.5), (3, 9, 0.0)])
def test_binomial_tail_equals_the_sum(correct, n, p0):
    brute = sum(math.comb(n, k) * p0**k * (1 - p0) ** (n - k) for k in range(correct, n + 1))
    assert binomial_p_above(correct, n, p0) == pytest.approx(brute, abs=1e-12)


@pytest.mark.parametrize(
    ("correct", "n", "p0"), [(1_040, 2_000, 0.5), (230, 2_000, 0.1), (19_990, 20_000, 0.999)]
)
def test_binomial_tail_equals_scipy(correct, n, p0):
    expected = scipy.stats.binomtest(correct, n, p0, alternative="greater").pvalue
    assert binomial_p_above(correct, n, p0) == pytest.approx(expected, rel=1e-9)


def test_seeds_interval_is_students_t():
    scores = [0.61, 0.64, 0.60, 0.66, 0.63]
    summary = interval_over_seeds(scores)
    low, high = scipy.stats.t.interval(0.95, 4, loc=np.mean(scores), scale=scipy.stats.sem(scores))
    assert (summary.seeds, summary.mean) == (5, pytest.approx(0.628))
    assert summary.sd == pytest.approx(np.std(scores, ddof=1))
    assert (summary.interval.low, summary.interval.high) == pytest.approx((low, high))


def test_one_seed_shows_no_spread():
    summary = interval_over_seeds([0.7])
    assert (summary.seeds, summary.mean, summary.sd, summary.interval) == (1, 0.7, None, None)


def test_seeds_interval_covers_as_promised():
    rng = np.random.default_rng(1)
    draws = rng.normal(0.6, 0.02, size=(4_000, 3))
    intervals = [interval_over_seeds(row).interval for row in draws]
    covered = np.mean([interval.low <= 0.6 <= interval.high for interval in intervals])
    assert 0.935 < covered < 0.965  # 95 % and four standard errors


def test_interval_over_seeds_and_examples_covers_both_kinds_of_luck():
    """Accuracy of seed s at example e: a shared part, a seed's part and an example's part."""
    rng = np.random.default_rng(2)
    truth, covered, examples_only = 0.6, 0, 0
    rounds = 150
    for index in range(rounds):
        seed_part = rng.normal(0, 0.05, size=(5, 1))
        example_part = rng.normal(0, 0.2, size=(1, 200))
        correct = rng.random((5, 200)) < np.clip(truth + seed_part + example_part, 0, 1)
        interval = interval_over_seeds_and_examples(correct, seed=index, resamples=300)
        covered += interval.low <= truth <= interval.high
        one = wilson_interval(int(correct[0].sum()), 200)
        pooled_half = 1.96 * math.sqrt(correct.mean() * (1 - correct.mean()) / correct.size)
        examples_only += abs(correct.mean() - truth) <= pooled_half
        assert one.low < one.high
    assert covered / rounds > 0.85
    # Taking seeds x examples as independent draws, the usual mistake, covers far less.
    assert examples_only / rounds < covered / rounds - 0.15


def test_interval_over_seeds_and_examples_has_the_variance_it_should():
    # Pigeonhole bootstrap of a 2 x 2 matrix, by listing all 16 equally likely resamples.
    matrix = np.array([[1, 0], [1, 1]])
    means = [
        matrix[np.ix_(rows, columns)].mean()
        for rows in itertools.product(range(2), repeat=2)
        for columns in itertools.product(range(2), repeat=2)
    ]
    interval = interval_over_seeds_and_examples(matrix, resamples=20_000, level=0.5)
    assert interval.low == pytest.approx(np.quantile(means, 0.25), abs=0.26)
    low, high = np.quantile(means, [0.25, 0.75], method="inverted_cdf")
    assert (interval.low, interval.high) == (low, high)


def test_interval_over_one_seed_is_that_over_examples():
    correct = np.zeros(400)
    correct[:240] = 1
    interval = interval_over_seeds_and_examples(correct[None], resamples=4_000)
    wilson = wilson_interval(240, 400)
    assert interval.low == pytest.approx(wilson.low, abs=0.006)
    assert interval.high == pytest.approx(wilson.high, abs=0.006)


def test_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(3)
    a = rng.random(2_000) < 0.7
    b = a.copy()
    flipped = rng.choice(np.flatnonzero(a), size=20, replace=False)
    b[flipped] = False  # B fails on 20 examples more, and is A elsewhere
    result = paired_bootstrap_difference(a, b, seed=0)
    assert result.difference == pytest.approx(0.01)
    assert result.interval.low > 0
    assert result.p_value < 0.001
    # The unpaired intervals overlap widely.
    assert wilson_interval(int(b.sum()), 2_000).high > wilson_interval(int(a.sum()), 2_000).low


def test_paired_difference_equals_a_plain_bootstrap():
    rng = np.random.default_rng(4)
    a, b = rng.random(300) < 0.6, rng.random(300) < 0.55
    ours = paired_bootstrap_difference(a, b, seed=5, resamples=20_000)
    gaps = a.astype(float) - b
    plain = gaps[rng.integers(0, 300, size=(20_000, 300))].mean(axis=1)
    low, high = np.quantile(plain, [0.025, 0.975])
    assert ours.interval.low == pytest.approx(low, abs=0.004)
    assert ours.interval.high == pytest.approx(high, abs=0.004)
    two_sided = 2 * min((plain <= 0).mean(), (plain >= 0).mean())
    assert ours.p_value == pytest.approx(two_sided, abs=0.02)


def test_paired_difference_rejects_no_more_often_than_it_says():
    rng = np.random.default_rng(6)
    rejected = 0
    for index in range(1_000):
        a, b = rng.random(200) < 0.7, rng.random(200) < 0.7
        rejected += paired_bootstrap_difference(a, b, seed=index, resamples=400).p_value < 0.05
    assert rejected / 1_000 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 1_000)


def test_paired_difference_of_equals_is_nothing():
    a = np.array([1, 0, 1, 1])
    result = paired_bootstrap_difference(a, a)
    assert (result.difference, result.p_value) == (0.0, 1.0)
    assert (result.interval.low, result.interval.high) == (0.0, 0.0)


def test_paired_difference_averages_seeds_first():
    a = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
    b = np.array([0, 0, 0, 0])
    assert paired_bootstrap_difference(a, b).difference == pytest.approx(0.375)


def test_bootstraps_repeat_with_their_seed():
    rng = np.random.default_rng(7)
    a, b = rng.random(500) < 0.6, rng.random(500) < 0.55
    assert paired_bootstrap_difference(a, b, seed=1) == paired_bootstrap_difference(a, b, seed=1)
    assert paired_bootstrap_difference(a, b, seed=1) != paired_bootstrap_difference(a, b, seed=2)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9, 20, 101])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_median_interval_takes_the_tightest_pair_that_covers(n, level):
    samples = list(np.random.default_rng(n).permutation(n))
    interval = median_interval(samples, level)

    def coverage(k):
        """P(k <= B <= n - k), B ~ Binomial(n, 1/2): the k-th smallest and largest enclose the median."""
        return sum(math.comb(n, i) for i in range(k, n - k + 1)) / 2**n

    fitting = [k for k in range(1, n // 2 + 1) if coverage(k) >= level]
    k = max(fitting, default=1)
    assert (interval.low, interval.high) == (k - 1, n - k)
    assert interval.level == pytest.approx(coverage(k) if n > 1 else 0.0)


def test_median_interval_says_when_it_cannot_reach_its_level():
    assert median_interval([1.0, 2.0, 3.0]).level == pytest.approx(0.75)
    assert median_interval(range(6)).level == pytest.approx(1 - 2 / 64)


def test_median_interval_covers_skewed_samples():
    draws = np.random.default_rng(8).lognormal(0, 1, size=(3_000, 20))
    intervals = [median_interval(row) for row in draws]
    covered = np.mean([interval.low <= 1 <= interval.high for interval in intervals])
    assert covered == pytest.approx(intervals[0].level, abs=4 * math.sqrt(0.05 * 0.95 / 3_000))


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson_interval(3, 2),
        lambda: wilson_interval(0, 0),
        lambda: wilson_interval(1, 2, level=95),
        lambda: binomial_p_above(1, 2, 1.5),
        lambda: interval_over_seeds([]),
        lambda: interval_over_seeds([0.5, float("nan")]),
        lambda: interval_over_seeds_and_examples([1, 0, 1]),
        lambda: paired_bootstrap_difference([1, 0], [1]),
        lambda: paired_bootstrap_difference([1, 0], [1, 1], resamples=3),
        lambda: median_interval([]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(OptionError, match="expected"):
        call()


def test_results_are_json_ready():
    import json

    for result in (
        wilson_interval(3, 7),
        interval_over_seeds([0.1, 0.2]),
        paired_bootstrap_difference([1, 0, 1], [0, 0, 1]),
    ):
        assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
