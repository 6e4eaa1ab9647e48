"""The sequential test of step times, held to simulated pairs whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lra_bench.regression.rules import TimeRules
from lra_bench.regression.timing import FIRST_LOOK, answer_of, confidence_bounds

RULES = TimeRules()
PAIRS = 25
"""What the budget allows at most."""


def run(logs: np.ndarray, rules: TimeRules = RULES) -> tuple[str, int]:
    for count in range(FIRST_LOOK, len(logs) + 1):
        answer = answer_of(*confidence_bounds(list(logs[:count]), rules.confidence), rules)
        if answer is not None:
            return answer, count
    return "inconclusive", len(logs)


def test_the_bounds_are_students_with_the_first_looks_share() -> None:
    logs = [0.01, 0.03, 0.02, 0.05]
    low, high = confidence_bounds(logs, 0.99)
    # Look 1 spends half of what is allowed in all: 1 / (1 * 2).
    expected = stats.t.interval(1 - 0.005, 3, loc=np.mean(logs), scale=stats.sem(logs))
    assert (math.log(low), math.log(high)) == pytest.approx(expected)


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
    assert answer_of(low, high, RULES) == answer
