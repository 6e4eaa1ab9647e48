"""`lra-bench check` against a file; `test_example_project.py` has an outside project and its revisions."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from pathlib import Path

import pytest
from calling import Call
from outside_project import RULES

from lra_bench.regression.check import current_evidence, models_of, run_check
from lra_bench.regression.evidence import CellEvidence, Evidence, write_evidence
from lra_bench.regression.pairs import Side
from lra_bench.regression.rules import Rules, load_rules

BROKEN = """
from lra_bench.mixer import Cost, MultiHeadMixer
class Broken(MultiHeadMixer):
    def attend(self, query, key, value, mask):
        return no_such_name
    @classmethod
    def cost(cls, length, dim, num_heads, **options):
        return Cost(1, 1)
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def test_a_baseline_file_is_written_and_checked(
    tmp_path: Path, rules: Path, lra: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    baseline, shared = tmp_path / "baseline.json", ("check", "--rules", rules, "--models", "transformer")
    written = lra(*shared, "--write-baseline", baseline, "--no-timing")
    assert written.code == 0, written.err
    equal = lra(*shared, "--baseline", baseline)
    assert equal.code == 0, equal.out + equal.err
    assert "No regression (1 model," in equal.out
    content = json.loads(baseline.read_text())
    sizes = content["cells"][0]["bytes"]
    sizes["step"] = int(0.9 * sizes["step"])
    baseline.write_text(json.dumps(content))
    worse = lra(*shared, "--baseline", baseline, "--junit", "junit.xml", "--markdown", "comment.md")
    assert worse.code == 3, worse.out + worse.err
    assert "1 regression" in worse.out
    assert "failure" in (tmp_path / "junit.xml").read_text()
    assert "peak bytes, step" in (tmp_path / "comment.md").read_text()


def test_step_times_are_stored_beside_the_calibration_and_compared_with_it(
    tmp_path: Path, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factor = 1.0

    def pair(one: Side, other: Side, *, reverse: bool) -> float:
        assert (one.name, one.warm_up["do"]) == ("calibration", "warm_up_calibration")
        return math.log(2 * factor) + (0.01 if reverse else -0.01)

    monkeypatch.setattr("lra_bench.regression.timing.pair_ratio", pair)
    known = Evidence(revision="r", torch="2", processor="p")
    monkeypatch.setattr("lra_bench.regression.check.gather", lambda *_, **__: known)
    monkeypatch.setattr("lra_bench.regression.check.probe_server", lambda **_: nullcontext())
    loaded = load_rules(rules)
    quick = loaded.model_copy(update={"time": loaded.time.model_copy(update={"baseline_pairs": 6})})
    evidence = current_evidence(quick, ["transformer"], repository=tmp_path, seeds=1)
    baseline = tmp_path / "baseline.json"
    write_evidence(baseline, evidence)
    for factor, verdict in ((1.0, "same"), (1.5, "worse"), (0.5, "better")):
        found = run_check(str(baseline), quick, ["transformer"], repository=tmp_path)
        (time,) = [one for one in found.findings if one.kind == "time"]
        assert time.verdict == verdict
        assert time.after == pytest.approx(factor)
        assert "calibration" in time.note
    other = evidence.model_copy(update={"processor": "another"})
    write_evidence(baseline, other)
    found = run_check(str(baseline), quick, ["transformer"], repository=tmp_path)
    assert not [one for one in found.findings if one.kind == "time"]


def test_what_fails_in_both_is_no_pass(
    tmp_path: Path, rules: Path, lra: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fails_always.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    baseline = tmp_path / "baseline.json"
    shared = ("check", "--rules", rules, "--models", "fails_always:Broken")
    written = lra(*shared, "--write-baseline", baseline, "--no-timing")
    assert written.code == 1
    assert "NameError" in written.err
    checked = lra(*shared, "--baseline", baseline)
    assert checked.code == 1, checked.out + checked.err
    assert "could not be compared" in checked.out


def test_usage_errors_say_what_to_do(rules: Path, lra: Call) -> None:
    neither = lra("check", "--rules", rules)
    assert neither.code == 2
    assert "--write-baseline" in neither.err
    unknown = lra("check", "--baseline", "no-such-branch", "--models", "fnet")
    assert unknown.code == 2
    assert "neither a file nor a revision" in unknown.err


def test_only_what_is_asked_for_is_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = [CellEvidence(model=name, task="recall", parameters=1) for name in ("transformer", "fnet")]
    evidence = Evidence(revision="r", torch="2", processor="p", cells=cells)
    write_evidence(tmp_path / "baseline.json", evidence)
    now = evidence.model_copy(update={"cells": cells[:1]})
    monkeypatch.setattr("lra_bench.regression.check.gather", lambda *_, **__: now)
    monkeypatch.setattr("lra_bench.regression.check.probe_server", lambda **_: nullcontext())
    rules = Rules(tasks=["recall"])
    found = run_check(str(tmp_path / "baseline.json"), rules, ["transformer"], repository=tmp_path)
    assert {one.verdict for one in found.findings} == {"same"}


def test_globs_are_spelled_out_without_controls() -> None:
    names = models_of(Rules(), ["lin*", "fnet"])
    assert names == ["linformer", "linear_transformer", "fnet"]
    assert "majority" not in models_of(Rules(), ["*"])
