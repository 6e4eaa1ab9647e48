"""The committed table of proofs covers the registry, and is what the script makes of its evidence."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof_table import DOCUMENT, condense, document
from references.cases import KINDS

from lra_bench.registry import Entry, models
from lra_bench.report.proofs import all_proofs, proof_column, proof_lines

MIXING = [entry for entry in models if entry.kind in KINDS]


@pytest.mark.parametrize("entry", MIXING, ids=lambda entry: entry.name)
def test_every_model_is_in_the_table(entry: Entry) -> None:
    proof = all_proofs().get(entry.name)
    assert proof, f"run the commands at the head of tests/proof_table.py: {entry.name} has no line"
    assert proof["reference_float32"] < 1e-5
    assert proof["reference_float64"] < 1e-9
    assert proof["flops"] > 0
    assert len(proof["mutants"]) >= 2
    assert proof["compiled"] < 1e-4
    assert proof["learns"]["steps"] > 0
    if entry.recall_limit:
        assert not proof["learns"]["solved"], "its card says that it can't"
    if entry.padding_invariant:
        assert proof["padding"] < 1e-9


def test_nothing_is_left_of_models_that_are_gone() -> None:
    assert list(all_proofs()) == [entry.name for entry in MIXING]


def test_the_document_is_of_the_table() -> None:
    table = {name: dict(proof) for name, proof in all_proofs().items()}
    if not Path(DOCUMENT).exists():
        pytest.skip("docs are not part of this installation")
    assert Path(DOCUMENT).read_text("utf-8") == document(table)


def test_words_of_a_proof() -> None:
    lines = proof_lines("linformer")
    assert lines["reference"].startswith("error ")
    assert "planted faults caught" in lines["mutants"]
    assert "reference" in proof_column("linformer")
    assert proof_column("majority") == ""


def test_the_worst_of_many_findings_stands_in_the_table() -> None:
    raw = {
        "reference_float64": [1e-16, 3e-15],
        "padding": [{"content": 0.0, "amount": 2e-16}, {"content": 1e-15, "amount": 0.0}],
        "flops": [{"lengths": 4}, {"lengths": 4}],
        "mutants": ["B", "A", "B"],
    }
    proof = condense(raw)
    assert proof["reference_float64"] == 3e-15
    assert proof["reference_cases"] == 2
    assert proof["padding"] == 1e-15
    assert proof["flops"] == 8
    assert proof["mutants"] == ["A", "B"]
