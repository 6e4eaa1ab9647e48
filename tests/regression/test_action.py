"""The action and workflows: their steps are run here, with somebody's words where somebody's words go."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from outside_project import DOTTED, EXAMPLE, MODULE, RULES, committed_project, git, install, plant

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COPIED = EXAMPLE / ".github" / "workflows" / "check.yml"
COMMENT = ROOT / ".github" / "comment.sh"
BASELINE = ROOT / ".github" / "baseline.sh"

FAKE_GH = """\
#!/usr/bin/env python3
import json, os, pathlib, sys
files = [word.partition("=@")[2] for word in sys.argv if word.startswith("body=@")]
call = {"words": sys.argv[1:], "body": pathlib.Path(files[0]).read_text() if files else None}
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps(call) + "\\n")
if "--jq" in sys.argv and os.environ.get("ANSWER"):
    print(os.environ["ANSWER"])
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


@pytest.mark.parametrize("path", [*WORKFLOWS, COPIED], ids=["check", "comment", "copied"])
def test_workflows_may_do_no_more_than_they_must(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    (job,) = content["jobs"].values()
    assert set(content["permissions"].items()) <= {("contents", "read")}
    granted = job.get("permissions", content["permissions"])
    writes = {name for name, level in granted.items() if level != "read"}
    assert writes == (set() if path == WORKFLOWS[0] else {"pull-requests"})
    triggers = content[True]  # YAML 1.1 reads `on` so
    assert "pull_request_target" not in triggers
    if path.name == "comment.yml":  # what may always write never runs what a pull request brings
        assert set(triggers) == {"workflow_run"}
        checkouts = [one for one in steps_of(path) if str(one.get("uses", "")).startswith("actions/checkout")]
        assert all("ref" not in one.get("with", {}) for one in checkouts)
    kept = [one["with"]["persist-credentials"] for one in steps_of(path) if "checkout" in one.get("uses", "")]
    assert kept == [False]


def test_what_goes_into_the_cache_is_named_by_commits_and_digests() -> None:
    cached = [one for one in steps_of(ACTION) if str(one.get("uses", "")).startswith("actions/cache")]
    assert len(cached) == 4
    for one in cached:
        assert set(re.findall(r"\${{ *([\w.]+)", one["with"]["key"])) <= {
            f"steps.baseline.outputs.{name}" for name in ("commit", "head", "revision", "evidence")
        }
        saves = one["uses"].startswith("actions/cache/save")
        assert saves == (one["if"] == "steps.next.outputs.kept == 'true'")
    only_when = step("Make the next baseline")["if"]
    assert "github.event_name == 'push'" in only_when
    assert "default_branch" in only_when


REAL = f'#!/bin/sh\nexec "{sys.executable}" -P -m lra_bench "$@"\n'
FAKE = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
while [ $# -gt 0 ]; do
  case $1 in --write-baseline|--markdown) echo found > "$2";; esac
  shift
done
exit "${CODE:-0}"
"""
INPUTS = {"MODELS": DOTTED, "BASELINE": "main", "COMMIT": "", "PROJECT": ".", "RULES": "", "ACCEPT": ""}


def run_step(
    name: str, folder: Path, project: Path, tool: str = REAL, **variables: str
) -> tuple[dict[str, str], Path]:
    """A step's own script, as its runner would start it: its outputs, and the runner's folder."""
    scratch, bin_folder = folder / "runner", folder / "bin"
    for one in (scratch, bin_folder):
        one.mkdir(exist_ok=True)
    for program, text in (("lra-bench", tool), ("python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')):
        (bin_folder / program).write_text(text)
        (bin_folder / program).chmod(0o755)
    environment = {
        **os.environ,
        **INPUTS,
        "STRICT": "false",
        "BUDGET": "1",
        "PULL_REQUEST": "7",
        "LRA_BENCH_CACHE": str(scratch / "lra-bench-cache"),
        "CALLS": str(folder / "calls"),
        "RUNNER_OS": "Linux",
        "RUNNER_ARCH": "X64",
        **variables,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(ROOT),
        "RUNNER_TEMP": str(scratch),
        "GITHUB_STEP_SUMMARY": str(scratch / "summary.md"),
        "GITHUB_OUTPUT": str(scratch / "output"),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)["run"]]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (scratch / "output").read_text().splitlines() if (scratch / "output").exists() else []
    return dict(line.split("=", 1) for line in lines), scratch


@pytest.mark.slow
def test_the_check_step_reports_a_regression_of_an_outside_project(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="nothing to build the project with")
    project = committed_project(tmp_path / "project")
    site = install(project, tmp_path / "site")
    plant(site, "extra tensor kept")
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    outputs, scratch = run_step("Check", tmp_path, project, RULES=str(rules), PYTHONPATH=str(site))
    assert outputs["code"] == "3"
    summary = (scratch / "summary.md").read_text()
    assert "regression" in summary
    assert DOTTED in summary
    assert (scratch / "lra-bench" / "comment.md").read_text() == summary
    assert json.loads((scratch / "lra-bench" / "check.json").read_text())["regressions"] >= 1
    for name in ("junit.xml", "findings.csv", "benchmark/smaller.json", "benchmark/bigger.json"):
        assert (scratch / "lra-bench" / name).exists()
    assert (scratch / "lra-bench" / "pull_request").read_text() == "7\n"


def test_words_that_look_like_commands_stay_words(tmp_path: Path) -> None:
    project = committed_project(tmp_path / "project")
    evil = "$(touch pwned)`touch pwned`\ncommit=0"
    run_step("Baseline", tmp_path, project, ASKED=evil, PROJECT=evil, MODELS=evil, BASE_SHA=evil, BEFORE=evil)
    outputs, scratch = run_step(
        "Check", tmp_path, project, MODELS=evil, BASELINE="; touch pwned", PULL_REQUEST=evil
    )
    assert outputs["code"] == "2"
    assert outputs["commit"] == ""
    assert all(re.fullmatch(r"[\w.-]*", value) for value in outputs.values())
    assert "nothing could be compared (exit code 2)" in (scratch / "lra-bench" / "comment.md").read_text()
    assert not list(tmp_path.rglob("pwned"))


def head(project: Path, ref: str = "HEAD") -> str:
    done = subprocess.run(
        ["git", "-C", str(project), "rev-parse", ref], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def baseline_of(folder: Path, project: Path, **variables: str) -> dict[str, str]:
    nothing = {"ASKED": "", "BASE_SHA": "", "BEFORE": "", "GITHUB_SHA": head(project)}
    (folder / "runner" / "output").unlink(missing_ok=True)
    return run_step("Baseline", folder, project, **{**nothing, **variables})[0]


def test_a_pull_request_is_compared_with_what_it_is_merged_into(tmp_path: Path) -> None:
    """The base branch has moved on since the pull request was opened: what is new there is not its doing."""
    project = committed_project(tmp_path / "project")
    opened_at = head(project)
    git(project, "checkout", "-q", "-b", "change")
    git(project, "commit", "-q", "--allow-empty", "-m", "a change")
    git(project, "checkout", "-q", "main")
    git(project, "commit", "-q", "--allow-empty", "-m", "meanwhile")
    moved_to = head(project)
    git(project, "checkout", "-q", "--detach")
    git(project, "merge", "-q", "--no-ff", "change", "-m", "merge")
    assert baseline_of(tmp_path, project, BASE_SHA=opened_at)["commit"] == moved_to
    git(project, "checkout", "-q", "change")
    merged = head(project, "HEAD@{1}")
    assert baseline_of(tmp_path, project, BASE_SHA=moved_to, GITHUB_SHA=merged)["commit"] == opened_at
    shallow = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{project}", str(shallow)], check=True)
    assert baseline_of(tmp_path, shallow, BASE_SHA=moved_to, GITHUB_SHA=merged)["commit"] == moved_to, (
        "fetched"
    )


def test_other_baselines(tmp_path: Path) -> None:
    project = committed_project(tmp_path / "project")
    first = head(project)
    git(project, "commit", "-q", "--allow-empty", "-m", "second")
    git(project, "commit", "-q", "--allow-empty", "-m", "third")
    asked = baseline_of(tmp_path, project, ASKED="HEAD~2", BASE_SHA=head(project))
    assert (asked["commit"], asked["head"]) == (first, head(project))
    assert baseline_of(tmp_path, project, ASKED="README.md")["commit"] == "", "a file"
    assert baseline_of(tmp_path, project, BEFORE=first)["commit"] == first
    new_branch = baseline_of(tmp_path, project, BEFORE="0" * 40)
    assert new_branch["commit"] == head(project, "HEAD^1")
    other = baseline_of(tmp_path, project, MODELS="other", BEFORE=first)
    assert other["revision"] == asked["revision"]
    assert other["evidence"] != asked["evidence"], "evidence is of certain models"


def test_a_push_makes_the_baseline_that_the_next_one_is_checked_against(tmp_path: Path) -> None:
    project = committed_project(tmp_path / "project")
    commit = head(project)
    stale = tmp_path / "runner" / "lra-bench-cache" / "revisions" / "older"
    stale.mkdir(parents=True)
    outputs, scratch = run_step("Make the next baseline", tmp_path, project, FAKE, HEAD=commit)
    assert outputs["kept"] == "true"
    assert [path.name for path in stale.parent.iterdir()] == [commit]
    assert (stale.parent / commit / MODULE).exists()
    evidence = scratch / "lra-bench-evidence" / f"{commit}.json"
    assert evidence.exists()
    run_step("Check", tmp_path, project, FAKE, COMMIT=commit)
    assert f"check --baseline {evidence} " in (tmp_path / "calls").read_text().splitlines()[-1]
    run_step("Check", tmp_path, project, FAKE, COMMIT="f" * 40)
    assert f"check --baseline {'f' * 40} " in (tmp_path / "calls").read_text().splitlines()[-1]


def test_evidence_of_a_model_that_fails_is_not_kept(tmp_path: Path) -> None:
    project = committed_project(tmp_path / "project")
    outputs, _ = run_step("Make the next baseline", tmp_path, project, FAKE, HEAD=head(project), CODE="1")
    assert "kept" not in outputs


def with_fake_gh(folder: Path, answer: str) -> dict[str, str]:
    gh = folder / "gh"
    gh.write_text(FAKE_GH)
    gh.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "ANSWER": answer,
        "REPOSITORY": "o/r",
        "NUMBER": "7",
    }


def calls_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


@pytest.mark.parametrize("earlier", ["", "99\n100"])
def test_a_pull_request_has_one_comment_that_is_updated(tmp_path: Path, earlier: str) -> None:
    comment = tmp_path / "comment.md"
    comment.write_text("<!-- lra-bench check -->\ntext\n")
    environment = with_fake_gh(tmp_path, earlier)
    command = ["bash", str(COMMENT), str(comment)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    listed, written = calls_of(tmp_path)
    assert "repos/o/r/issues/7/comments" in listed["words"]
    where = "repos/o/r/issues/comments/99" if earlier else "repos/o/r/issues/7/comments"
    assert where in written["words"]
    assert ("PATCH" if earlier else "POST") in written["words"]
    assert written["body"] == comment.read_text()
    wrong = subprocess.run(command, env=environment | {"NUMBER": "7; rm"}, check=False, capture_output=True)
    assert wrong.returncode == 2


def test_a_long_comment_is_cut_at_the_end_of_a_line(tmp_path: Path) -> None:
    lines = ["<!-- lra-bench check -->", *(f"| ä {number} |" for number in range(20_000))]
    (tmp_path / "comment.md").write_text("\n".join(lines) + "\n")
    command = ["bash", str(COMMENT), str(tmp_path / "comment.md")]
    subprocess.run(command, env=with_fake_gh(tmp_path, ""), check=True, capture_output=True)
    body = calls_of(tmp_path)[-1]["body"]
    assert 60_000 < len(body.encode()) < 65_536
    *kept, empty, _, last = body.rstrip("\n").split("\n")
    assert kept == lines[: len(kept)]
    assert empty == ""
    assert "job summary" in last


@pytest.mark.parametrize("head_sha", ["c0ffee", "another"])
def test_a_comment_for_a_fork_goes_to_the_pull_request_that_was_checked(
    tmp_path: Path, head_sha: str
) -> None:
    """The number comes from the pull request's own run: it may be anything."""
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "comment.md").write_text("<!-- lra-bench check -->\ntext\n")
    (tmp_path / "found" / "pull_request").write_text("7; $(touch pwned)\n")
    (tmp_path / ".github").symlink_to(ROOT / ".github")
    (script,) = [one["run"] for one in steps_of(WORKFLOWS[1]) if one.get("name") == "Comment"]
    environment = {**with_fake_gh(tmp_path, "c0ffee"), "HEAD": head_sha}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked, *further = calls_of(tmp_path)
    assert "repos/o/r/pulls/7" in asked["words"]
    assert len(further) == (2 if head_sha == "c0ffee" else 0)
    assert not list(tmp_path.rglob("pwned"))
