"""What must hold for every model of the catalog, by being there.

The checks are those of `lra-bench validate`; what only the registry has is added: an oracle, options out
of range, and the figures of the table of proofs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from references.cases import PROOFS, Case, all_cases
from references.comparison import assert_matches_reference, telling_input

from lra_bench.errors import OptionError
from lra_bench.registry import models
from lra_bench.validation import costs
from lra_bench.validation.checks import CHECKS
from lra_bench.validation.growth import parse_growth
from lra_bench.validation.subject import core

CASES = all_cases()
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.label}")
every_default = pytest.mark.parametrize(
    "case", [case for case in CASES if case.label == "default"], ids=lambda case: case.name
)
Evidence = Callable[[str, str, Any], None]

FLOAT32_ERROR = 1e-5
COLUMNS = {"padding": "padding", "FLOPs": "flops", "bytes": "bytes"}
"""Checks whose figures stand in the table of proofs, and their column there."""
NOT_IN_EVERY_CASE = {"speed", "FLOPs growth", "bytes growth"}
"""Figures, or too large for every variant of options: see `test_costs_grow_as_claimed`."""


def test_catalog_is_seen() -> None:
    assert {"transformer", "linformer", "performer"} <= {case.name for case in CASES}


def test_entry_without_an_oracle_fails_with_what_to_do() -> None:
    with pytest.raises(pytest.fail.Exception, match="has no oracle: write tests/references/"):
        _ = Case("newcomer", "default", {}).proof


@every_case
@pytest.mark.parametrize("length", [1, 2, 7, 16, 33])
def test_matches_reference(case: Case, length: int, evidence: Evidence) -> None:
    error = assert_matches_reference(case.build(), case.proof, [length, length])
    evidence(case.name, "reference_float64", error)


@every_case
@pytest.mark.parametrize("lengths", [[33, 20, 3, 1], [16, 15, 4], [2, 1]], ids=str)
def test_matches_reference_with_padding(case: Case, lengths: list[int], evidence: Evidence) -> None:
    if not models.get(case.name).padding_invariant:
        pytest.skip("its card says that padding changes its output")
    evidence(
        case.name, "reference_float64", assert_matches_reference(case.build(seed=2), case.proof, lengths)
    )


@every_case
def test_float32_is_near_the_reference(case: Case, evidence: Evidence) -> None:
    """In the precision that is used, at the scale of normalised activations."""
    module = case.build(seed=1)
    x, _ = telling_input([33], case.sizes.dim)
    x = x / 3
    with torch.no_grad():
        got = module(x.float())[0].double().numpy()
    expected = case.proof.reference(core(module), x[0].float().double().numpy())
    error = float(np.abs(got - expected).max() / np.abs(expected).max())
    assert error < FLOAT32_ERROR
    evidence(case.name, "reference_float32", error)


@every_case
@pytest.mark.parametrize("check", [name for name in CHECKS if name not in NOT_IN_EVERY_CASE])
def test_check(case: Case, check: str, evidence: Evidence) -> None:
    subject = case.subject
    if check == "gradients":
        subject = replace(subject, options={**subject.options, **case.proof.smooth})
    finding = CHECKS[check](subject)
    if finding.verdict == "skipped" and check == "causality":
        pytest.skip(finding.text)
    assert finding.verdict == "passed", finding.text
    if check in COLUMNS:
        evidence(case.name, COLUMNS[check], dict(finding.figures))


@every_default
def test_costs_grow_as_claimed(case: Case, evidence: Evidence) -> None:
    """The closed forms, which equal what is counted, from 1K to 64K tokens; against the card's words."""
    lengths = [2**power for power in range(10, 17)]
    sizes = replace(case.sizes, dim=64, num_heads=4, head_dim=16, max_length=lengths[-1], ffn_dim=128)
    subject = replace(case.subject, sizes=sizes)
    entry = models.get(case.name)
    found = [subject.cost(length) for length in lengths]
    for claim, values, column in (
        (entry.time, [cost.flops for cost in found], "time_growth"),
        (entry.memory, [cost.activation_bytes for cost in found], "memory_growth"),
    ):
        assert claim, "the card must claim a growth"
        finding = costs.judge_growth(parse_growth(claim), lengths, [float(v) for v in values], column)
        assert finding.verdict == "passed", finding.text
        evidence(case.name, column, {"claim": claim, **finding.figures})


@every_default
def test_cards_are_complete(case: Case) -> None:
    entry = models.get(case.name)
    assert entry.formula, "what it computes"
    assert entry.paper is not None
    assert entry.paper.link
    if not entry.padding_invariant:
        assert "padding" in entry.notes, "the notes must say why padding changes its output"
    for rung in entry.ladder:
        models.get(rung.model)
    if entry.ladder:
        assert entry.ladder[0].model == "transformer"
        assert entry.ladder[-1] == replace(entry.ladder[-1], model=case.name, options={}), (
            "the last rung is the entry with its defaults"
        )


@every_case
def test_eager_graph_is_the_same(case: Case) -> None:
    """Traced whole, without a break in the graph; what a compiler does with it is another matter."""
    module = case.build()
    x = case.tokens(2, 19)
    torch.compiler.reset()
    traced = torch.compile(module, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(traced(x), module(x))


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, proof in PROOFS.items() for options in proof.invalid],
    ids=str,
)
def test_options_out_of_range(name: str, options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(options))}=.* is out of range: expected "):
        Case(name, "invalid", options).build()
