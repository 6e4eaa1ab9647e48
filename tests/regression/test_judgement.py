"""What counts as a regression, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from lra_bench.regression.evidence import CellEvidence, Evidence, LearningRun, ModelLearning
from lra_bench.regression.judgement import CELL, Finding, judge
from lra_bench.regression.rules import Rules

RULES = Rules()


def cell(**changes: Any) -> CellEvidence:
    content: dict[str, Any] = {
        "model": "m",
        "task": "t",
        "parameters": 1000,
        "flops": {"step": 3000, "forward": 1000},
        "bytes": {"step": 100_000, "evaluation": 50_000},
        "fingerprints": {"train data": "a" * 64, "order of training": "b" * 64},
        "outputs": {"evaluation": [2.0], "training": [2.0, 1.9, 1.8]},
    }
    return CellEvidence.model_validate(content | changes)


def learned(accuracies: list[float], losses: list[float] | None = None, **changes: Any) -> ModelLearning:
    runs = [
        LearningRun(seed=seed, mean_loss=loss, accuracy=accuracy)
        for seed, (accuracy, loss) in enumerate(
            zip(accuracies, losses or [0.5] * len(accuracies), strict=True)
        )
    ]
    return ModelLearning.model_validate({"model": "m", "task": "recall", "runs": runs} | changes)


def evidence(
    cells: list[CellEvidence] | None = None,
    learning: list[ModelLearning] | None = None,
    processor: str = "p",
) -> Evidence:
    return Evidence(revision="r", torch="2", processor=processor, cells=cells or [], learning=learning or [])


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.metric: finding.verdict for finding in findings if finding.verdict != "same"}


def compared(**changes: Any) -> dict[str, str]:
    return verdicts(judge(evidence([cell()]), evidence([cell(**changes)]), RULES))


def test_equal_evidence_has_no_finding_but_same() -> None:
    both = evidence([cell()], [learned([0.9, 0.95, 1.0])])
    found = judge(both, both, RULES)
    assert verdicts(found) == {}
    # 1 of parameters, 2 of FLOPs, 2 of bytes, 2 digests, 2 outputs, 2 of learning
    assert len(found) == 11


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"parameters": 1001}, {"parameters": "worse"}),
        ({"parameters": 999}, {"parameters": "better"}),
        ({"flops": {"step": 3001, "forward": 1000}}, {"FLOPs, step": "worse"}),
        ({"bytes": {"step": 100_999, "evaluation": 50_000}}, {}),
        ({"bytes": {"step": 101_001, "evaluation": 50_000}}, {"peak bytes, step": "worse"}),
        ({"bytes": {"step": 98_000, "evaluation": 50_000}}, {"peak bytes, step": "better"}),
        ({"bytes": {"step": 100_000, "evaluation": 60_000}}, {"peak bytes, evaluation": "worse"}),
        (
            {"fingerprints": {"train data": "c" * 64, "order of training": "b" * 64}},
            {"train data": "changed"},
        ),
        ({"outputs": {"evaluation": [2.000001], "training": [2.0, 1.9, 1.8]}}, {}),
        (
            {"outputs": {"evaluation": [2.001], "training": [2.0, 1.9, 1.8]}},
            {"loss before training": "changed"},
        ),
        (
            {"outputs": {"evaluation": [2.0], "training": [2.0, 1.9, 1.81]}},
            {"losses, training": "changed"},
        ),
        ({"outputs": {"evaluation": [2.0], "training": [2.0]}}, {"losses, training": "changed"}),
        (
            {"outputs": {"evaluation": [2.0], "training": [2.0, 1.9, 1.8], "norm": [40.0]}},
            {"norm of parameters after training steps": "new"},  # a baseline of before there was one
        ),
    ],
)
def test_what_repeats_may_grow_by_its_tolerance_only(changes: Any, expected: Any) -> None:
    assert compared(**changes) == expected


def test_the_first_step_that_differs_is_named() -> None:
    now = evidence([cell(outputs={"evaluation": [2.0], "training": [2.0, 1.95, 1.8]})])
    (found,) = [one for one in judge(evidence([cell()]), now, RULES) if one.verdict == "changed"]
    assert (found.before, found.after, found.note) == (1.9, 1.95, "from step 2 on")


def test_elsewhere_outputs_are_held_to_a_wider_tolerance() -> None:
    small = cell(outputs={"evaluation": [2.001], "training": [2.0, 1.9, 1.8]})
    large = cell(outputs={"evaluation": [2.01], "training": [2.0, 1.9, 1.8]})
    here = evidence([cell()])
    assert verdicts(judge(here, evidence([small], processor="q"), RULES)) == {}
    assert verdicts(judge(here, evidence([large], processor="q"), RULES)) == {
        "loss before training": "changed"
    }


def test_new_vanished_and_failed_cells() -> None:
    other = cell(model="other")
    broken = CellEvidence(model="m", task="t", failure="ValueError: no")
    found = judge(evidence([cell()]), evidence([other]), RULES)
    assert {one.model: one.verdict for one in found} == {"m": "vanished", "other": "new"}
    assert all(one.metric == CELL for one in found)
    assert [one.is_regression for one in found] == [True, False]
    assert verdicts(judge(evidence([cell()]), evidence([broken]), RULES)) == {CELL: "failed"}
    assert verdicts(judge(evidence([broken]), evidence([cell()]), RULES)) == {CELL: "new"}
    (both,) = judge(evidence([broken]), evidence([broken]), RULES)
    assert both.verdict == "not compared"
    assert not both.is_regression


def test_a_change_that_was_announced_is_no_regression_but_shown() -> None:
    now = evidence([cell(parameters=2000, outputs={"evaluation": [3.0], "training": [2.0, 1.9, 1.8]})])
    found = judge(evidence([cell()]), now, RULES, accept=["outputs"])
    assert [one.metric for one in found if one.is_regression] == ["parameters"]
    assert [one.metric for one in found if one.accepted] == ["loss before training"]
    gone = judge(evidence([cell()]), evidence(), RULES, accept=["exact"])
    assert [one.is_regression for one in gone] == [True]


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "same"),
        ([1.0, 1.0, 1.0], [0.985, 0.985, 0.985], "same"),  # within the floor of 2 points
        ([1.0, 1.0, 1.0], [0.97, 0.97, 0.97], "worse"),
        ([0.9, 0.8, 0.7], [0.55, 0.55, 0.55], "same"),  # within three standard deviations of 0.1
        ([0.9, 0.8, 0.7], [0.45, 0.45, 0.45], "worse"),
        ([0.5, 0.5, 0.5], [0.9, 0.9, 0.9], "better"),
    ],
)
def test_learning_is_judged_by_the_spread_of_the_baseline(
    before: list[float], now: list[float], verdict: str
) -> None:
    found = judge(evidence(learning=[learned(before)]), evidence(learning=[learned(now)]), RULES)
    assert {one.metric: one.verdict for one in found} == {"accuracy": verdict, "training loss": "same"}


def test_a_loss_that_falls_slower_is_found_where_accuracy_is_the_same() -> None:
    before = learned([1.0, 1.0, 1.0], [0.30, 0.31, 0.32])
    now = learned([1.0, 1.0, 1.0], [0.40, 0.41, 0.42])
    found = judge(evidence(learning=[before]), evidence(learning=[now]), RULES)
    assert verdicts(found) == {"training loss": "worse"}
    assert verdicts(judge(evidence(learning=[now]), evidence(learning=[before]), RULES)) == {
        "training loss": "better"
    }
