"""A project of somebody else's with a mixer of its own, and rules that make checks quick."""

from __future__ import annotations

import subprocess
from pathlib import Path

RULES = """\
tasks: [recall]
exact:
  settings:
    task.length: 64
    task.num_pairs: 4
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
MIXER = '''\
"""A mixer of somebody's own."""

from lra_bench.mixer import Cost, MultiHeadMixer


class Mean(MultiHeadMixer):
    """Every token gets the mean of all values."""

    def attend(self, query, key, value, mask):
        return query + {EXPRESSION}

    @classmethod
    def cost(cls, length, dim, num_heads, **options):
        return Cost(1, 1)
'''
PROJECT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
PROJECT += '[project]\nname = "mine"\nversion = "1"\n[tool.setuptools]\npy-modules = ["mine"]\n'


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def committed_project(folder: Path) -> Path:
    """A repository whose branch main has the mixer `mine:Mean`."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "mine.py").write_text(MIXER.replace("{EXPRESSION}", "value.mean(2, keepdim=True)"))
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder
