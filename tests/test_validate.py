"""`lra-bench validate`: a correct module passes, and each broken one fails by the check made for it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from broken import Correct
from calling import Call
from synthetic_session import cell, session

from lra_bench.bench.records import write_cell, write_session
from lra_bench.errors import UsageError
from lra_bench.registry import models
from lra_bench.validation import costs
from lra_bench.validation.checks import CHECKS, prove
from lra_bench.validation.growth import fit, parse_growth
from lra_bench.validation.subject import Sizes, Subject

SIZES = Sizes(dim=16, num_heads=4, head_dim=4, max_length=64)


def failures(target: str) -> dict[str, str]:
    outcomes = list(prove(Subject(models.get(target), {}, SIZES)))
    assert [outcome.check for outcome in outcomes] == list(CHECKS)
    return {one.check: one.finding.text for one in outcomes if one.finding.verdict == "failed"}


def test_a_correct_module_passes() -> None:
    assert failures("broken:Correct") == {}


@pytest.mark.parametrize(
    ("broken", "checks", "words"),
    [
        ("PaddingLeak", {"padding"}, "padding leaks: other content at pads changes real tokens by"),
        ("FutureLeak", {"causality", "padding"}, "the future leaks: later tokens change earlier outputs by"),
        ("DeadParameter", {"parameters"}, "gate is a dead parameter: no result depends on it."),
        ("WrongGrowth", {"FLOPs growth", "bytes growth"}, "; the claim is n d."),
    ],
)
def test_a_broken_module_fails(broken: str, checks: set[str], words: str) -> None:
    found = failures(f"broken:{broken}")
    assert set(found) == checks
    assert any(words in text for text in found.values()), found


def test_the_verb(lra: Call) -> None:
    code, shown, _ = lra("validate", "broken:DeadParameter")
    assert code == 1
    assert "FAILED   parameters      gate is a dead parameter" in shown
    assert "1 of 16 checks failed (parameters)" in shown
    code, shown, _ = lra("validate", "linformer", "--set", "model.rank=8", "--json")
    assert code == 0
    (content,) = json.loads(shown)
    assert content["options"] == {"rank": 8, "sharing": "layerwise"}
    assert {one["verdict"] for one in content["checks"]} == {"passed", "skipped", "note"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("linformr",), "Did you mean linformer"),
        (("linformer", "--set", "model.rnk=8"), "has no option 'rnk'"),
        (("linformer", "--set", "budget.steps=8"), "only options of the model"),
        (("linformer", "--num-heads", "5"), "does not divide"),
        (("majority",), "only a mixer or an encoder can be proved"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], words: str, lra: Call) -> None:
    done = lra("validate", *arguments)
    assert done.code == 2
    assert words in done.err


def test_records_are_checked(tmp_path: Path, lra: Call) -> None:
    folder = tmp_path / "runs" / "cpu"
    folder.mkdir(parents=True)
    (folder / "0123456789abcdef.json").write_text("{}")
    done = lra("validate", tmp_path / "runs")
    assert done.code == 1
    assert "0 of 1 records hold" in done.out


def test_measuring_sessions_are_checked(tmp_path: Path, lra: Call) -> None:
    measured = session([cell("transformer", 64, own_s=1.0)])
    folder = tmp_path / "bench" / "cpu" / measured.record.session
    write_session(folder, measured.record)
    write_cell(folder / "cells" / "transformer-64.json", measured.cells[0])
    done = lra("validate", tmp_path)
    assert done.code == 0
    assert "2 of 2 records hold" in done.out
    (folder / "cells" / "transformer-64.json").write_text('{"schema": 1, "mdoel": "x"}')
    done = lra("validate", tmp_path)
    assert done.code == 1
    assert "transformer-64.json" in done.out


@pytest.mark.parametrize(
    ("claim", "power", "logarithms"),
    [
        ("n^2 d", 2, 0),
        ("n d", 1, 0),
        ("n log n d", 1, 1),
        ("n sqrt(n) d", 1.5, 0),
        ("n^1.5 d + n d^2", 1.5, 0),
        ("n k d + n^2 h", 2, 0),
        ("n w d + n g d", 1, 0),
        ("1", 0, 0),
        ("n b + (n / b)^2", None, None),
    ],
)
def test_claims_are_read(claim: str, power: float | None, logarithms: int | None) -> None:
    if power is None:
        with pytest.raises(UsageError, match="can't be read"):
            parse_growth(claim)
        return
    growth = parse_growth(claim)
    assert (growth.power, growth.logarithms) == (power, logarithms)
    assert growth(1024) == pytest.approx(1024**power * (10 if logarithms else 1))


def test_fit_finds_the_parts() -> None:
    lengths = [64, 128, 256, 512]
    values = [1000 + 5 * n + 0.25 * n * n for n in lengths]
    model = fit(parse_growth("n^2 d"), lengths, values)
    assert model.r2 == pytest.approx(1)
    assert model.residual < 1e-9
    assert [model.constant, model.linear / 512, model.claimed / 512**2] == pytest.approx([1000, 5, 0.25])


def test_growth_beyond_the_claim_fails() -> None:
    lengths = [256, 512, 1024]
    linear, logarithmic = [float(n) for n in lengths], [n * math.log2(n) for n in lengths]
    for claim, values, verdict in [
        ("n d", linear, "passed"),
        ("n d", [float(n * n) for n in lengths], "failed"),
        ("n d", [n**1.5 for n in lengths], "failed"),
        ("n log n d", logarithmic, "passed"),
        ("n^2 d", linear, "passed"),
    ]:
        assert costs.judge_growth(parse_growth(claim), lengths, values, "FLOPs").verdict == verdict


def test_an_error_in_a_check_is_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks(torch.nn.Module):
        def __init__(self, *arguments: object, **shape: object) -> None:
            raise RuntimeError("no such kernel\nand more")

    entry = models.get("broken:Correct")
    monkeypatch.setattr(type(entry), "load", lambda self: Breaks)
    outcomes = list(prove(Subject(entry, {}, SIZES)))
    assert outcomes[0].finding.text == "RuntimeError: no such kernel"
    assert outcomes[0].finding.verdict == "failed"


def test_a_wrong_gradient_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class HalfAGradient(Correct):
        """Backward of another function than forward."""

        def attend(self, query, key, value, mask):
            mixed = super().attend(query, key, value, mask)
            return mixed + (0.5 * mixed - 0.5 * mixed.detach())

    entry = models.get("broken:Correct")
    monkeypatch.setattr(type(entry), "load", lambda self: HalfAGradient)
    finding = CHECKS["gradients"](Subject(entry, {}, SIZES))
    assert finding.verdict == "failed"
    assert "gradients differ from numeric ones" in finding.text
