"""A child process finds what its parent finds, the working folder apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lra_bench.launch.import_path import import_environment


def found_by_a_child(module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    environment = {**os.environ, **import_environment()}
    return subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=False).returncode == 0


def test_folders_that_were_added_reach_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {name: tmp_path / name for name in ("named", "added", "working")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / f"mine_{name}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(folders["named"]))
    monkeypatch.chdir(folders["working"])
    monkeypatch.setattr(sys, "path", [*sys.path, str(folders["working"])])
    assert not found_by_a_child("mine_added")
    monkeypatch.setattr(sys, "path", [str(folders["added"]), *sys.path])
    assert found_by_a_child("mine_added")
    assert found_by_a_child("mine_named")
    assert not found_by_a_child("mine_working")


def test_a_checkout_does_not_hide_the_package_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is no longer the working folder, which is left out in any case.
    (tmp_path / "lra_bench").mkdir()
    (tmp_path / "mine.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert not found_by_a_child("mine")
    assert found_by_a_child("lra_bench.tasks")
