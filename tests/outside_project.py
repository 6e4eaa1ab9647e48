"""A project of somebody else's: `examples/my_attention` in its own repository; rules for short checks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "my_attention"
NAME, DOTTED = "near_far", "my_attention.near_far:NearFar"
MODULE = Path("my_attention", "near_far.py")
RULES = """\
tasks: [listops]
exact:
  settings:
    task.min_length: 8
    task.max_length: 48
    task.train_size: 64
    task.validation_size: 16
    task.test_size: 16
    data.train_examples: 64
    evaluation.validation_examples: 16
    evaluation.test_examples: 16
    budget.batch_size: 4
    architecture.dim: 16
    architecture.dropout: 0.1
learning:
  seeds: 1
  baseline_seeds: 2
  settings: {task.length: 32, task.num_pairs: 4, data.train_examples: 64, evaluation.validation_examples: 16,
    evaluation.test_examples: 16, budget.steps: 3, budget.batch_size: 4, budget.evaluate_every: 3}
time: {length: 32, budget_s: 2}
"""
PLANTED = {
    "extra tensor kept": (
        "        return torch.lerp(far, near, gate)\n",
        "        self.kept = query @ key.transpose(2, 3)\n        return torch.lerp(far, near, gate)\n",
    ),
    "padding leak": ("        if mask is not None:\n", "        if False:\n"),
}
"""Regressions: text of the mixer's file, and what it becomes."""


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def committed_project(folder: Path) -> Path:
    """A repository whose branch main has the example."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def plant(root: Path, fault: str) -> None:
    """Puts a regression into the mixer below `root`: a checkout, or a folder that it is installed in."""
    file, (old, new) = root / MODULE, PLANTED[fault]
    text = file.read_text("utf-8")
    assert text.count(old) == 1, f"{fault}: the place is not there"
    file.write_text(text.replace(old, new), "utf-8")


def install(project: Path, site: Path) -> Path:
    """By pip, with what it builds with and depends on as it is here."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(project)], check=True)
    return site
