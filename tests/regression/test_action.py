"""The action and workflows: their steps are run here, with somebody's words where somebody's words go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from outside_project import MIXER, RULES, committed_project

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COMMENT = ROOT / ".github" / "comment.sh"

FAKE_GH = """\
#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if "--jq" in sys.argv and os.environ.get("EARLIER"):
    print(os.environ["EARLIER"])
"""


def steps_of(path: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load(path.read_text("utf-8"))
    if "runs" in content:
        return list(content["runs"]["steps"])
    return [step for job in content["jobs"].values() for step in job["steps"]]


def step(name: str) -> dict[str, Any]:
    return next(one for one in steps_of(ACTION) if one.get("name") == name)


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=lambda path: path.name)
def test_nothing_from_outside_becomes_part_of_a_command(path: Path) -> None:
    scripts = [one["run"] for one in steps_of(path) if "run" in one]
    assert scripts or path.name == "check.yml"
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_do_no_more_than_they_must(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    writes = {name for name, level in content["permissions"].items() if level != "read"}
    assert writes == ({"pull-requests"} if path.name == "comment.yml" else set())
    triggers = content[True]  # YAML 1.1 reads `on` so
    assert "pull_request_target" not in triggers
    if writes:  # what may write never runs what a pull request brings
        assert set(triggers) == {"workflow_run"}
        checkouts = [one for one in steps_of(path) if str(one.get("uses", "")).startswith("actions/checkout")]
        assert all("ref" not in one.get("with", {}) for one in checkouts)


def run_check(folder: Path, project: Path, **inputs: str) -> tuple[int, Path]:
    """The action's own script, as its runner would start it."""
    scratch = folder / "runner"
    scratch.mkdir(exist_ok=True)
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    tool = bin_folder / "lra-bench"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m lra_bench "$@"\n')
    tool.chmod(0o755)
    named = {"MODELS": "mine:Mean", "BASELINE": "main", "RULES": "", "ACCEPT": "", "STRICT": "false"}
    environment = {
        **os.environ,
        **named,
        "BUDGET": "1",
        "PULL_REQUEST": "7",
        **inputs,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "RUNNER_TEMP": str(scratch),
        "GITHUB_STEP_SUMMARY": str(scratch / "summary.md"),
        "GITHUB_OUTPUT": str(scratch / "output"),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step("Check")["run"]]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    code = (scratch / "output").read_text().strip().splitlines()[-1]
    return int(code.removeprefix("code=")), scratch


def test_the_check_step_reports_a_regression_of_an_outside_project(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="nothing to build the project with")
    project = committed_project(tmp_path / "project")
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    (project / "mine.py").write_text(MIXER.replace("{EXPRESSION}", "value.exp().mean(2, keepdim=True)"))
    code, scratch = run_check(tmp_path, project, RULES=str(rules))
    assert code == 3
    summary = (scratch / "summary.md").read_text()
    assert "regression" in summary
    assert "mine:Mean" in summary
    assert (scratch / "lra-bench" / "comment.md").read_text() == summary
    assert json.loads((scratch / "lra-bench" / "check.json").read_text())["regressions"] >= 1
    assert (scratch / "lra-bench" / "pull_request").read_text() == "7\n"


def test_words_that_look_like_commands_stay_words(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    code, _ = run_check(
        tmp_path,
        project,
        MODELS="$(touch pwned)`touch pwned`",
        BASELINE="; touch pwned",
        PULL_REQUEST="$(id)",
    )
    assert code == 2
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("earlier", ["", "99"])
def test_a_pull_request_has_one_comment_that_is_updated(tmp_path: Path, earlier: str) -> None:
    gh = tmp_path / "gh"
    gh.write_text(FAKE_GH)
    gh.chmod(0o755)
    comment = tmp_path / "comment.md"
    comment.write_text("<!-- lra-bench check -->\ntext")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "EARLIER": earlier,
        "REPOSITORY": "o/r",
        "NUMBER": "7",
    }
    command = ["bash", str(COMMENT), str(comment)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    listed, written = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert "repos/o/r/issues/7/comments" in listed
    where = "repos/o/r/issues/comments/99" if earlier else "repos/o/r/issues/7/comments"
    assert where in written
    assert ("PATCH" if earlier else "POST") in written
    assert f"body=@{comment}" in written
    wrong = subprocess.run(command, env=environment | {"NUMBER": "7; rm"}, check=False, capture_output=True)
    assert wrong.returncode == 2
