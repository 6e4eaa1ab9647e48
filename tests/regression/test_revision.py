"""Another revision is installed beside this one: by what is here, or else in isolation."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from outside_project import git

from lra_bench.errors import UsageError
from lra_bench.regression.revision import install_revision, resolve_commit

PYPROJECT = '[build-system]\nrequires = ["{requires}"]\nbuild-backend = "setuptools.build_meta"\n'
PYPROJECT += '[project]\nname = "mine"\nversion = "1"\n[tool.setuptools]\npy-modules = ["mine"]\n'
FAKE_PIP = """\
#!{python}
import json, os, pathlib, sys
with open({calls!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if "--no-build-isolation" in sys.argv:
    sys.exit("setuptools 65 is too old")
target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1])
target.mkdir()
(target / "mine.py").write_bytes(pathlib.Path(sys.argv[-1], "mine.py").read_bytes())
"""


def repository(folder: Path, within: str = ".", requires: str = "setuptools") -> Path:
    """A repository with a project in one of its folders."""
    project = folder / within
    project.mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT.replace("{requires}", requires))
    (project / "mine.py").write_text("x = 1\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return project


@pytest.fixture
def pip_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pip that can only build in isolation, and notes how it was called."""
    calls, fake = tmp_path / "calls", tmp_path / "python"
    fake.write_text(FAKE_PIP.format(python=sys.executable, calls=str(calls)))
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    return calls


def test_where_the_build_tools_here_do_not_do_pip_fetches_its_own(tmp_path: Path, pip_calls: Path) -> None:
    project = repository(tmp_path / "project")
    commit = resolve_commit("main", project)
    folder = install_revision(commit, project, tmp_path / "cache")
    first, second = [json.loads(line) for line in pip_calls.read_text().splitlines()]
    assert {"--no-build-isolation", "--check-build-dependencies"} <= set(first)
    assert not {"--no-build-isolation", "--check-build-dependencies"} & set(second)
    assert "--no-deps" in first
    assert "--no-deps" in second
    assert (folder / "mine.py").exists()
    assert install_revision(commit, project, tmp_path / "cache") == folder
    assert len(pip_calls.read_text().splitlines()) == 2, "built once"


def test_a_project_within_a_repository_is_the_one_that_is_installed(tmp_path: Path, pip_calls: Path) -> None:
    project = repository(tmp_path / "whole", "packages/mine")
    commit = resolve_commit("main", project)
    folder = install_revision(commit, project, tmp_path / "cache")
    assert (folder / "mine.py").read_text() == "x = 1\n"
    (project.parent / "new").mkdir()
    with pytest.raises(UsageError, match="has no folder packages/new"):
        install_revision(commit, project.parent / "new", tmp_path / "cache")
    assert len(os.listdir(tmp_path / "cache" / "revisions")) == 1, "nothing half-made, no lock"


def test_what_pip_says_both_times_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here pip itself finds the build tools too old, and nothing to fetch."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    project = repository(tmp_path / "project", requires="setuptools>=9999")
    with pytest.raises(UsageError) as raised:
        install_revision(resolve_commit("main", project), project, tmp_path / "cache")
    message = str(raised.value)
    assert "cannot be installed with pip" in message
    assert "--check-build-dependencies:\n" in message
    assert "setuptools>=9999" in message
    assert "No matching distribution" in message
