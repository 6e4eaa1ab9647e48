"""The history and the check as CSV, JUnit, JSON, a figure and for github-action-benchmark."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from calling import Call
from jsonschema import Draft202012Validator, ValidationError
from past import commits, evidence, write_bench, write_run

from lra_bench.regression.check import Check, time_finding
from lra_bench.regression.evidence import Evidence
from lra_bench.regression.history import history
from lra_bench.regression.judgement import Finding
from lra_bench.regression.rules import Rules
from lra_bench.regression.timing import TimeVerdict
from lra_bench.report.github_benchmark import results_of_check, results_of_history, write_benchmarks
from lra_bench.report.history import history_csv, history_json, history_junit
from lra_bench.report.plots.history import history_figure
from lra_bench.report.regression import check_csv

SCHEMA = Path(__file__).parents[1] / "fixtures" / "github_benchmark.schema.json"
NASTY = "mine:Model\n::error::<b>\x1b[31m"


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Repository, results and commits: from the fifth of six on, Linformer is slower and bigger."""
    folder = tmp_path_factory.mktemp("past")
    made = commits(folder / "code", 6)
    for number, at in enumerate(made):
        late = number >= 4
        ratios = {"linformer": (0.6 if late else 0.5) * (1 + 0.002 * (-1) ** number), "fnet": 0.25}
        write_bench(folder / "results", at, f"2026010{number}", ratios, peak_bytes=1200 if late else 1000)
        for seed, accuracy in enumerate((0.40, 0.44)):
            write_run(folder / "results", at, seed=seed, accuracy=accuracy)
    return folder / "code", folder / "results", made


def entries(path: Path) -> list[dict[str, Any]]:
    """A file's content, held to what the action reads."""
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(found)
    names = [one["name"] for one in found]
    assert len(set(names)) == len(names)  # the action tells entries apart by name
    return found


@pytest.mark.parametrize(
    "bad",
    [
        {},
        [{"name": "a", "unit": "s"}],
        [{"name": "a", "unit": "s", "value": "1"}],
        [{"name": "", "unit": "s", "value": 1}],
        [{"name": "a", "unit": "s", "value": None}],
        [{"name": "a", "unit": "s", "value": 1, "range": "0.1"}],
        [{"name": "a", "unit": "s", "value": 1, "range": "± 1 MiB"}],
        [{"name": "a", "unit": "s", "value": 1, "remark": "x"}],
    ],
)
def test_the_schema_refuses_what_the_action_would_misread(bad: Any) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(json.loads(SCHEMA.read_text())).validate(bad)


def test_points_come_back_from_csv(past: tuple[Path, Path, list[str]], tmp_path: Path) -> None:
    code, results, made = past
    path = tmp_path / "history.csv"
    path.write_text(history_csv(history([results], repository=code)))
    frame = pd.read_csv(path)
    sizes = frame[
        (frame.metric == "peak bytes, step") & (frame.model == "linformer") & (frame.task == "4 x 1024")
    ]
    assert sizes.value.astype(int).tolist() == [1000] * 4 + [1200] * 2
    assert sizes.commit.tolist() == made
    assert sizes.change.dropna().tolist() == ["worse"]
    assert sizes.commits.dropna().tolist() == [f"{made[3][:8]}..{made[4][:8]}"]
    times = frame[(frame.group == "time") & (frame.model == "linformer")]
    assert times.level.astype(float).round(2).tolist() == [0.5] * 4 + [0.6] * 2
    scores = frame[frame.group == "accuracy"]
    assert scores.value.astype(float).tolist() == pytest.approx([0.42] * 6)
    assert set(scores["values"]) == {2}


def test_a_change_for_the_worse_fails_in_junit(past: tuple[Path, Path, list[str]]) -> None:
    code, results, made = past
    found = history([results], repository=code)
    suite = ET.fromstring(history_junit(found))
    cases = suite.findall("testcase")
    assert int(suite.get("tests", 0)) == len(cases) == len(found.series)
    failing = {
        case.get("name", "").partition(" (")[0]: case for case in cases if case.find("failure") is not None
    }
    # fnet's peak grows as well, under the same name.
    assert set(failing) == {"step time", "peak bytes, step"}
    assert suite.get("failures") == "3"
    failure = failing["step time"].find("failure")
    assert failure is not None
    assert f"worse in {made[3][:8]}..{made[4][:8]}" in failure.get("message", "")
    properties = {one.get("name"): one.get("value") for one in failing["step time"].iter("property")}
    assert float(properties["value"] or 0) == pytest.approx(0.6, abs=0.01)
    assert properties["commit"] == made[-1]
    assert properties["points"] == "6"


def test_json_names_both_ends_of_a_change_in_full(past: tuple[Path, Path, list[str]]) -> None:
    code, results, made = past
    content = history_json(history([results], repository=code, metrics=["time"]))
    (change,) = [change for one in content["series"] for change in one["changes"]]
    assert (change["good"], change["bad"], change["direction"]) == (made[3], made[4], "worse")
    json.dumps(content, allow_nan=False)


def test_the_last_commit_s_figures_go_to_the_action(
    past: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    code, results, made = past
    write_benchmarks(tmp_path, results_of_history(history([results], repository=code)))
    smaller = {one["name"]: one for one in entries(tmp_path / "smaller.json")}
    (time,) = [one for name, one in smaller.items() if name.startswith("linformer, 4 x 1024: step time")]
    assert (time["value"], time["unit"]) == (pytest.approx(0.6, abs=0.01), "x transformer")
    assert "cpu-test-2c-8g" in time["name"]
    assert f"commit {made[-1][:8]}" in time["extra"]
    assert {one["unit"] for one in smaller.values()} == {
        "parameters",
        "FLOPs",
        "bytes",
        "x transformer",
        "nats",
    }
    (score,) = entries(tmp_path / "bigger.json")
    assert (score["value"], score["unit"]) == (pytest.approx(42.0), "%")
    assert score["range"] == "± 2.82843"  # two seeds, four points apart


def test_an_older_commit_s_figure_does_not_pass_for_the_newest(
    past: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    code, results, made = past
    write_run(tmp_path, made[-2], seed=7)
    found = history([tmp_path, results / "bench"], repository=code)
    assert not [one for one in results_of_history(found) if one.bigger_is_better]


def test_a_check_s_figures_go_to_the_action(tmp_path: Path) -> None:
    after = Evidence.model_validate(evidence("r", 100, accuracies=(0.8, 0.9)))
    slower = time_finding(TimeVerdict(NASTY, "slower", 1.2, 1.1, 1.3, 6, 12.0), Rules())
    unknown = time_finding(TimeVerdict("m", "failed", None, None, None, 0, 1.0), Rules())
    write_benchmarks(tmp_path, results_of_check(Check(after, after, (slower, unknown))))
    found = entries(tmp_path / "smaller.json")
    assert [one["range"] for one in found if "step time" in one["name"]] == ["± 0.1"]
    smaller = {one["name"]: one["value"] for one in found}
    cell = "linformer, listops: {} (check cccccccc, cpu, fp32)"
    assert smaller[cell.format("parameters")] == 100
    assert smaller[cell.format("FLOPs, step")] == 300
    assert smaller[cell.format("peak bytes, step")] == 4096
    assert smaller["linformer, recall: training loss (check learning, cpu, fp32)"] == pytest.approx(0.15)
    assert [value for name, value in smaller.items() if "step time" in name] == [1.2]
    assert not any("\n" in name or "\x1b" in name for name in smaller)
    (score,) = entries(tmp_path / "bigger.json")
    assert score["value"] == pytest.approx(85)


def test_all_findings_come_back_from_csv(tmp_path: Path) -> None:
    one = Evidence(revision="r", torch="2", processor="p")
    findings = (
        Finding("exact", NASTY, "t", "peak bytes, step", "worse", 1 << 20, 3 << 20, 'a, "b"'),
        Finding("exact", "m", "t", "test data", "changed", "aa", "bb", accepted=True),
    )
    path = tmp_path / "check.csv"
    path.write_text(check_csv(Check(one, one, findings)))
    frame = pd.read_csv(path)
    assert frame.regression.tolist() == [True, False]
    assert frame.model.tolist() == [NASTY, "m"]
    assert frame.note[0] == 'a, "b"'
    assert frame.change[0] == 2.0
    empty = tmp_path / "empty.csv"
    empty.write_text(check_csv(Check(one, one, ())))
    assert pd.read_csv(empty).empty


def test_the_figure_shows_what_changed_and_marks_its_commits(
    past: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    code, results, made = past
    figure = history_figure(history([results], repository=code))
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in drawn] == ["4 x 1024: peak bytes, step", "4 x 1024: step time"]
    (label,) = drawn[1].texts
    assert label.get_text().startswith(f"{made[3][:8]}..{made[4][:8]}\n+2")
    legend = drawn[1].get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {
        "linformer  0.500 x → 0.600 x",
        "1 without a change",
    }
    quiet = history_figure(history([results], repository=code, metrics=["accuracy"]))
    assert len(quiet.axes) == 1
    assert not quiet.axes[0].texts
    # The first run of a new project has one commit, and is no error.
    write_run(tmp_path, made[0])
    assert history_figure(history([tmp_path], repository=code, metrics=["accuracy"])).axes


def test_the_command_writes_all_and_exits_0(
    past: tuple[Path, Path, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lra: Call,
) -> None:
    code, results, made = past
    monkeypatch.chdir(tmp_path)
    written = ["--csv", "h.csv", "--gab", "gab", "--junit", "h.xml", "--plot", "h.png"]
    exit_code, out, _ = lra("history", results, "--repository", code, *written)
    assert exit_code == 0
    assert f"{made[3][:8]}..{made[4][:8]}" in out
    assert "3 change points: 3 worse." in out
    assert {path.name for path in tmp_path.iterdir()} == {"h.csv", "gab", "h.xml", "h.png"}
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
    # A greater least change: of what is noisy only.
    fewer = lra("history", results, "--repository", code, "--min-change", 0.3)
    assert "2 change points: 2 worse." in fewer.out
    one = lra("history", results, "--repository", code, "--json", "--models", "fn*")
    assert one.code == 0
    assert {series["model"] for series in json.loads(one.out)["series"]} == {"fnet"}
    assert lra("history").code == 2
    assert lra("history", results, "--min-change", 5).code == 2
    assert lra("history", results, "--repository", code, "--plot", "h.pdf").code == 2
    (tmp_path / "runs").mkdir()
    assert lra("history", tmp_path / "runs").code == 5
