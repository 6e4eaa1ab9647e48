"""The sequential test of step times, held to simulated pairs whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from lra_bench.regression.calibration import VERSION, calibration_step
from lra_bench.regression.evidence import ModelTime
from lra_bench.regression.rules import TimeRules
from lra_bench.regression.timing import answer_of, compare_with_stored, confidence_bounds, looks

RULES = TimeRules()
PAIRS = 22
"""What the budget allows at most."""


def run(logs: np.ndarray, rules: TimeRules = RULES) -> tuple[str, int]:
    for count in dict.fromkeys((*looks(len(logs)), len(logs))):
        bounds = confidence_bounds(list(logs[:count]), rules.confidence, last=count == len(logs))
        answer = answer_of(*bounds, at_least=rules.at_least, within=rules.within)
        if answer is not None:
            return answer, count
    return "inconclusive", len(logs)


def test_the_bounds_are_students_with_the_first_looks_share() -> None:
    logs = [0.01, 0.03, 0.02, 0.05]
    low, high = confidence_bounds(logs, 0.99)
    # Look 1 spends half of what is allowed in all: 1 / (1 * 2).
    expected = stats.t.interval(1 - 0.005, 3, loc=np.mean(logs), scale=stats.sem(logs))
    assert (math.log(low), math.log(high)) == pytest.approx(expected)


def test_against_a_stored_baseline_the_bounds_are_welchs() -> None:
    stored, logs = [0.50, 0.47, 0.55, 0.52, 0.49], [0.61, 0.70, 0.66, 0.63]
    low, high = confidence_bounds(logs, 0.99, stored=stored)
    expected = stats.ttest_ind(logs, stored, equal_var=False).confidence_interval(1 - 0.005)
    assert (math.log(low), math.log(high)) == pytest.approx((expected.low, expected.high))


def test_a_baseline_timed_otherwise_is_not_compared() -> None:
    stored = ModelTime(model="m", calibration=VERSION + 1, length=1, batch_size=1, logs=[0.0] * 4)
    found = compare_with_stored(stored, None, RULES, "quick")  # type: ignore[arg-type]
    assert found.answer == "not compared"
    assert f"calibration {VERSION}" in found.note


def test_the_calibration_step_is_what_stored_ratios_are_to() -> None:
    # A change here makes all stored ratios wrong: it needs another VERSION, and then other numbers.
    step = calibration_step()
    parameters = next(
        cell.cell_contents
        for cell in step.__closure__ or ()
        if isinstance(cell.cell_contents, list) and isinstance(cell.cell_contents[0], torch.Tensor)
    )
    sizes = sorted(tuple(one.shape) for one in parameters)
    assert sizes == 2 * [(64, 64)] + 2 * [(64, 192)] + 2 * [(64, 256)] + 2 * [(256, 64)]
    before = [one.detach().clone() for one in parameters]
    counter = FlopCounterMode(display=False)
    with counter:
        step()
    # By hand, per layer and n = 384: projections 2 n d (3d + d), feed-forward 2 n d 4d twice, attention
    # 2 n^2 d twice; backward twice as much, but for the gradient of the input, which nobody asked for.
    n, d = 384, 64
    qkv, out, ffn, attention = 2 * n * d * 3 * d, 2 * n * d * d, 2 * 2 * n * d * 4 * d, 2 * 2 * n * n * d
    assert counter.get_total_flops() == 2 * 3 * (qkv + out + ffn + attention) - qkv
    assert all(not torch.equal(was, now) for was, now in zip(before, parameters, strict=True))
    assert VERSION == 1


def test_looks_become_rarer() -> None:
    assert looks(3) == []
    assert looks(30) == [4, 6, 8, 11, 15, 20, 27]


def test_a_look_because_time_is_up_is_one_look_more() -> None:
    logs = [0.01, 0.03, 0.02, 0.05, 0.04]
    shares = {
        stats.t.cdf(
            -(np.mean(logs) - math.log(confidence_bounds(logs, 0.99, last=last)[0])) / stats.sem(logs), 4
        )
        * 2
        for last in (False, True)
    }
    assert sorted(shares) == pytest.approx([0.01 / 6, 0.01 / 2])
    assert confidence_bounds(logs[:4], 0.99, last=True) == confidence_bounds(logs[:4], 0.99)


def test_all_looks_together_spend_what_is_allowed() -> None:
    shares = [1 / (look * (look + 1)) for look in range(1, 100_000)]
    assert sum(shares) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_false_alarms_are_as_rare_as_promised(noise: str) -> None:
    # Allowed to err in one of twenty, so that a few thousand sequences show whether it does.
    rules = TimeRules(confidence=0.95, at_least=0.0, within=0.0)
    random = np.random.default_rng(0)
    alarms, sequences = 0, 3000
    for _ in range(sequences):
        drawn = random.normal(size=PAIRS) if noise == "normal" else random.standard_t(3, size=PAIRS)
        alarms += run(0.03 * drawn, rules)[0] in ("slower", "faster")
    assert stats.binom.sf(alarms - 1, sequences, 0.05) > 0.01, f"{alarms} of {sequences}"


def test_with_the_defaults_equal_code_is_never_called_slower() -> None:
    random = np.random.default_rng(1)
    answers = [run(random.normal(0, 0.03, PAIRS))[0] for _ in range(1000)]
    assert answers.count("slower") + answers.count("faster") <= 1
    assert answers.count("same") > 500


@pytest.mark.parametrize(("slowdown", "least"), [(1.10, 0.8), (1.20, 0.99), (1.5, 1.0)])
def test_slowdowns_are_found(slowdown: float, least: float) -> None:
    random = np.random.default_rng(2)
    answers = [run(random.normal(math.log(slowdown), 0.03, PAIRS)) for _ in range(500)]
    assert sum(answer == "slower" for answer, _ in answers) / 500 >= least


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (1.04, 1.10, "slower"),
        (1.02, 1.10, None),
        (0.80, 0.95, "faster"),
        (0.97, 1.04, "same"),
        (0.90, 1.04, None),
        (1.031, 1.049, "slower"),  # small, but sure
    ],
)
def test_answers_follow_from_the_whole_interval(low: float, high: float, answer: str | None) -> None:
    assert answer_of(low, high, at_least=RULES.at_least, within=RULES.within) == answer
