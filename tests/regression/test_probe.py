"""What a probe finds of a state, and that planted faults show in it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lra_bench import evaluation, optimization, train
from lra_bench.data import batches
from lra_bench.regression.evidence import CellEvidence, Evidence
from lra_bench.regression.judgement import judge
from lra_bench.regression.probe import Probe
from lra_bench.regression.rules import Rules

RULES = Rules()
# As by default, but small.
SETTINGS = RULES.exact.settings | {
    "task.length": 64,
    "task.num_pairs": 4,
    "architecture.dim": 16,
    "architecture.ffn_dim": 16,
}


def found(model: str = "transformer") -> Evidence:
    probed = Probe().exact(model, "recall", "quick", SETTINGS)
    cell = CellEvidence(model=model, task="recall", **probed)
    return Evidence(revision="r", torch="2", processor="p", cells=[cell])


@pytest.fixture(scope="module")
def before() -> Evidence:
    return found()


def changed(before: Evidence, after: Evidence) -> dict[str, str]:
    return {one.metric: one.verdict for one in judge(before, after, RULES) if one.verdict != "same"}


def test_the_same_state_gives_the_same_evidence(before: Evidence) -> None:
    assert found() == before


def lost_no_grad(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("lra_bench.phases.evaluate", evaluation.evaluate.__wrapped__)  # type: ignore[attr-defined]


def dropout_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nn.Module, "eval", lambda self: self)


def lost_shuffle(patch: pytest.MonkeyPatch) -> None:
    def in_order(count: int, size: int, seed: int, step: int) -> Any:
        import numpy as np

        return (np.arange(size) + step * size) % count

    patch.setattr(batches, "training_indices", in_order)


def wrong_rate(patch: pytest.MonkeyPatch) -> None:
    true = optimization.learning_rate
    patch.setattr(train, "learning_rate", lambda *arguments: 3 * true(*arguments))


def lost_decay(patch: pytest.MonkeyPatch) -> None:
    true = torch.optim.AdamW
    patch.setattr(
        torch.optim, "AdamW", lambda parameters, **named: true(parameters, **{**named, "weight_decay": 0.0})
    )


def wrong_scale(patch: pytest.MonkeyPatch) -> None:
    true = nn.functional.scaled_dot_product_attention

    def scaled(query: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return true(query * 1.5, *arguments, **named)

    patch.setattr(nn.functional, "scaled_dot_product_attention", scaled)


def kept_matrix(patch: pytest.MonkeyPatch) -> None:
    true = nn.functional.scaled_dot_product_attention

    def keeping(query: Tensor, key: Tensor, value: Tensor, *arguments: Any, **named: Any) -> Tensor:
        weights = torch.exp((query @ key.transpose(-1, -2)) * 1e-9)  # saved for backward
        return true(query, key, value, *arguments, **named) + 0 * weights.sum()

    patch.setattr(nn.functional, "scaled_dot_product_attention", keeping)


@pytest.mark.parametrize(
    ("plant", "metrics"),
    [
        (lost_no_grad, {"peak bytes, evaluation"}),
        (dropout_in_evaluation, {"loss before training"}),
        (lost_shuffle, {"order of training", "losses, training"}),
        (wrong_rate, {"losses, training"}),
        (lost_decay, {"norm of parameters after training steps"}),
        (wrong_scale, {"loss before training", "losses, training"}),
        (kept_matrix, {"peak bytes, step"}),
    ],
)
def test_a_planted_fault_shows(
    before: Evidence,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    metrics: set[str],
) -> None:
    plant(monkeypatch)
    assert metrics <= changed(before, found()).keys()


def test_a_probe_takes_turns_of_the_calibration_step() -> None:
    with closing(Probe()) as probe:
        assert probe.warm_up_calibration(0.01)["step_s"] > 0
        assert len(probe.turn(3)["seconds"]) == 3
        assert not gc.isenabled()
    assert gc.isenabled()
