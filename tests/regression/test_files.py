"""Rules and baselines from files: what is wrong is said, with the right exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lra_bench.errors import DataError, UsageError
from lra_bench.regression.evidence import Evidence, read_evidence, write_evidence
from lra_bench.regression.rules import Rules, load_rules


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("models: [linformer]\nexact: {bytes: 0.05}\n")
    rules = load_rules(path)
    assert rules.models == ["linformer"]
    assert rules.exact.bytes == 0.05
    assert rules.exact.flops == Rules().exact.flops
    assert load_rules(None) == Rules()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exact: {byte: 0.1}", "bytes"),  # the near miss is named
        ("time: {confidence: 1.5}", "confidence"),
        ("models: [", "not YAML"),
        ("exact: {bytes: .nan}", "bytes"),
    ],
)
def test_faults_in_rules_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_rules(path)


def test_missing_rules_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_rules(tmp_path / "none.yaml")


def test_evidence_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    evidence = Evidence(revision="r", torch="2", processor="p")
    write_evidence(path, evidence)
    assert read_evidence(path) == evidence


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "schema None"),
        (json.dumps({"schema_version": 99}), "schema 99"),
        (json.dumps({"schema_version": 1, "revision": "r", "torch": "2"}), "processor is missing"),
        (
            json.dumps({"schema_version": 1, "revision": "r", "torch": "2", "processor": "p", "x": 1}),
            "unknown key 'x'",
        ),
    ],
)
def test_a_damaged_baseline_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_evidence(path)
