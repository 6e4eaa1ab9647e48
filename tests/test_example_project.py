"""`examples/my_attention` as somebody else has it: installed, in its own repository, used from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import Call
from outside_project import DOTTED, EXAMPLE, NAME, PLANTED, RULES, committed_project, install, plant

import lra_bench
from lra_bench.registry import models

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "task.length": 32,
    "task.num_pairs": 4,
    "data.train_examples": 64,
    "evaluation.validation_examples": 16,
    "evaluation.test_examples": 16,
    "budget.batch_size": 8,
    "budget.steps": 3,
}
CHECK_YML = EXAMPLE / ".github" / "workflows" / "check.yml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", reason="nothing to build the project with")
    return committed_project(tmp_path_factory.mktemp("outside") / "project")


@pytest.fixture(scope="module")
def site(project: Path) -> Path:
    """The folder that the project is installed in."""
    return install(project, project.parent / "site")


@pytest.fixture
def lra(site: Path, lra: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Calls the command from a folder that has nothing to do with the project."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    vars(models).pop("offers", None)  # what is installed has changed
    yield lra
    vars(models).pop("offers", None)


@pytest.mark.parametrize("name", [NAME, DOTTED])
def test_verbs_take_it_as_they_take_a_registered_name(lra: Call, name: str) -> None:
    code, out, err = lra("show", name, "--json")
    assert code == 0, err
    assert list(json.loads(out)["options"]) == ["window", "parameter_match"]
    code, out, err = lra("run", "--model", name, "--task", "recall", "--set", "model.window=5", "--dry-run")
    assert code == 0, err
    assert "window=5" in out
    assert (
        "Did you mean window" in lra("run", "--model", name, "--task", "recall", "--set", "model.windw=5")[2]
    )
    code, out, err = lra("bench", "--models", name, "--lengths", "64", "--device", "cpu", "--dry-run")
    assert code == 0, err
    assert name in out
    code, _, err = lra("check", "--models", name, "--baseline", "no-such-revision")
    assert (code, "nor a revision" in err) == (2, True), "its name was found, the revision was not"
    assert type(lra_bench.load_model(name, task="recall", window=5)).__name__ == "SequenceClassifier"


def test_globs_and_lists_have_the_offered_name(lra: Call) -> None:
    rows = json.loads(lra("list", "models", "near_*", "--json")[1])
    assert [row["name"] for row in rows] == [NAME]
    assert "my-attention 0.1.0" in rows[0]["summary"]
    code, out, err = lra("bench", "--models", "near_*", "--lengths", "64", "--device", "cpu", "--dry-run")
    assert code == 0, err
    assert NAME in out


def test_a_folder_of_the_same_name_does_not_hide_it(lra: Call, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    code, out, _ = lra("validate", NAME, "--json", "--set", "model.window=2")
    (subject,) = json.loads(out)
    assert (code, subject["model"]) == (1, NAME)
    assert any("window=2 is out of range" in one["text"] for one in subject["checks"])


def test_its_records_are_read_where_it_is_not_installed(
    lra: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    arguments = {"settings": SMALL, "metrics": ("accuracy",), "controls": False, "device": "cpu"}
    record = lra_bench.run(NAME, "recall", **arguments, results=tmp_path / "results")
    assert (record.status, record.model.family) == ("ok", "external")
    readers = [
        ("list", "runs"),
        ("show", record.run_id, "--json"),
        ("leaderboard",),
        ("compare", "results", "results", "--all"),
        ("plot", "heat"),
    ]
    shown = {verb: lra(verb, *rest)[1] for verb, *rest in readers}
    assert all(NAME in text for text in (shown["list"], shown["show"], shown["leaderboard"]))
    assert "the same" in shown["compare"]
    paths = [folder for folder in sys.path if not (Path(folder) / "my_attention").exists()]
    monkeypatch.setattr(sys, "path", paths)
    for module in [one for one in sys.modules if one.startswith("my_attention")]:
        monkeypatch.delitem(sys.modules, module)
    vars(models).pop("offers", None)
    for verb, *rest in readers:
        code, out, err = lra(verb, *rest)
        assert (code, out) == (0, shown[verb]), err
    code, _, err = lra("run", "--model", NAME, "--task", "recall")
    assert code == 2
    assert "known where it is installed" in err
    code, _, err = lra("run", "--model", DOTTED, "--task", "recall")
    assert code == 2
    assert "'my_attention' is neither installed nor in" in err


def check(project: Path, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`lra-bench check` from a working folder beside the project."""
    rules = project.parent / "rules.yaml"
    rules.write_text(RULES)
    shared = ["--rules", str(rules), "--repository", str(project), "--baseline", "main"]
    command = [sys.executable, "-P", "-m", "lra_bench", "check", *shared, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site), "LRA_BENCH_CACHE": str(project.parent / "cache")}
    return subprocess.run(
        command, cwd=project.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_identical_code_is_no_regression(project: Path, site: Path) -> None:
    done = check(project, site, "--models", "near_*")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(1 model," in done.stdout
    worktrees = subprocess.run(
        ["git", "-C", str(project), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(worktrees.stdout.splitlines()) == 1


@pytest.mark.slow
def test_planted_regressions_are_found(project: Path, tmp_path: Path) -> None:
    """By name and by path: a tensor that is kept, in bytes and FLOPs; padding that leaks, in outputs."""
    changed = install(project, tmp_path / "site")
    for fault in PLANTED:
        plant(changed, fault)
    junit, comment = tmp_path / "junit.xml", tmp_path / "comment.md"
    files = ["--junit", str(junit), "--markdown", str(comment)]
    done = check(project, changed, "--models", f"{NAME},{DOTTED}", "--no-timing", "--json", *files)
    assert done.returncode == 3, done.stdout + done.stderr
    findings = json.loads(done.stdout)["findings"]
    regressions = [one for one in findings if one["regression"]]
    for model in (NAME, DOTTED):
        found = {(one["kind"], one["metric"]) for one in regressions if one["model"] == model}
        assert {("exact", "peak bytes, step"), ("exact", "FLOPs, forward")} <= found
        assert ("outputs", "losses, training") in found
        assert not {one for one in found if one[1] == "parameters" or one[1].endswith("data")}
        assert model in comment.read_text()
    failed = [case for case in ET.parse(junit).iter("testcase") if case.find("failure") is not None]
    assert len(failed) == len(regressions)


def test_its_own_tests_pass(project: Path, site: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[1-9]\d* passed", done.stdout)


def test_the_workflow_in_the_docs_is_the_one_to_copy() -> None:
    text = (ROOT / "docs" / "CHECK.md").read_text("utf-8")
    (shown,) = re.findall(r"```yaml\n(name: check\n.*?)```", text, re.DOTALL)
    assert shown == CHECK_YML.read_text("utf-8")


def test_the_commands_of_its_readme_are_right(lra: Call) -> None:
    """Planned, or as far as usage: names, options and values."""
    text = (EXAMPLE / "README.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [
        line.partition("#")[0] for line in "".join(blocks).splitlines() if line.startswith("lra-bench")
    ]
    assert {shlex.split(command)[1] for command in commands} >= {"validate", "run", "bench", "check"}
    for command in commands:
        _, verb, *words = shlex.split(command)
        further = {"run": ["--dry-run", "--device", "cpu"], "bench": ["--dry-run", "--device", "cpu"]}
        if verb == "check":
            code, _, err = lra(verb, *words, "--repository", os.devnull)
            assert (code, "nor a revision" in err) == (2, True), err
            continue
        code, _, err = lra(verb, *words, *further.get(verb, []))
        assert code == 0, f"{command}: {err}"
