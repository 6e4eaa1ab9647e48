"""`--compile` computes the same: `pytest -m compiled`, for it takes some ten seconds a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from references.cases import Case, all_cases

from lra_bench.validation.checks import COMPILED

DEFAULTS = [case for case in all_cases() if case.label == "default"]


@pytest.mark.compiled
@pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: case.name)
def test_compiled_is_the_same(case: Case, evidence: Callable[..., None]) -> None:
    finding = COMPILED["compile"](case.subject)
    assert finding.verdict == "passed", finding.text
    evidence(case.name, "compiled", dict(finding.figures))
