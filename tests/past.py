"""Repositories with a past, and what was measured at their commits."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthetic_session import cell, session

from lra_bench.bench.records import write_cell, write_session

GOLDEN = Path(__file__).parent / "golden_records" / "run_schema1.json"
DAY = "2026-01-{:02d}T12:00:00+00:00"


def git(folder: Path, *arguments: str, day: int = 1) -> str:
    who = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    when = {"GIT_AUTHOR_DATE": DAY.format(day), "GIT_COMMITTER_DATE": DAY.format(day)}
    apart = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, env={**os.environ, **who, **when, **apart}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, files: Mapping[str, Any], day: int = 1) -> str:
    """The id of a new commit with these files: text, or something to write as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        git(folder, "add", name)
    git(folder, "commit", "--quiet", "--allow-empty", "--message", f"day {day}", day=day)
    return git(folder, "rev-parse", "HEAD")


def commits(folder: Path, count: int) -> list[str]:
    return [commit(folder, {}, day) for day in range(1, count + 1)]


def run_record(
    at: str | None,
    *,
    day: int = 1,
    seed: int = 0,
    dirty: bool = False,
    core: int = 1000,
    accuracy: float = 0.5,
) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(GOLDEN.read_text())
    content["run_id"] = f"{seed:016x}"
    content["seed"] = seed
    content["provenance"] |= {"commit": at, "dirty": dirty, "started": DAY.format(day)}
    content["model"]["parameters"] = {"embedding": 0, "length_dependent": 0, "core": core}
    content["accuracy"]["best"] |= {"accuracy": accuracy}
    return content


def write_run(results: Path, at: str | None, **changes: Any) -> Path:
    content = run_record(at, **changes)
    path = results / "runs" / f"{at}-{content['seed']}-{changes.get('day', 1)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_bench(
    results: Path, at: str, name: str, ratios: Mapping[str, float], peak_bytes: int = 1000, **options: Any
) -> None:
    """A session with one length, in which models take these multiples of the Transformer's step time."""
    cells = [cell("transformer", 1024, own_s=1.0, peak_bytes=100, flops=30)]
    cells += [
        cell(model, 1024, own_s=ratio, reference_s=1.0, peak_bytes=peak_bytes, flops=30, **options)
        for model, ratio in ratios.items()
    ]
    made = session(cells)
    folder = results / "bench" / "cpu-test" / name
    provenance = {"commit": at, "dirty": False, "started": DAY.format(1)}
    write_session(folder, made.record.model_copy(update={"session": name, "provenance": provenance}))
    for one in made.cells:
        write_cell(folder / "cells" / f"{one.model}.json", one.model_copy(update={"session": name}))


def evidence(
    revision: str, parameters: int = 100, *, test_data: str = "a" * 64, accuracies: tuple[float, ...] = ()
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "revision": revision,
        "torch": "2.13.0",
        "processor": "p",
        "cells": [
            {
                "model": "linformer",
                "task": "listops",
                "parameters": parameters,
                "flops": {"step": 300, "forward": 100},
                "bytes": {"step": 4096},
                "fingerprints": {"test data": test_data, "settings": "c" * 64},
                "outputs": {"evaluation": [2.3], "training": [2.2, 2.1]},
            }
        ],
        "learning": [
            {
                "model": "linformer",
                "task": "recall",
                "runs": [
                    {"seed": n, "accuracy": one, "mean_loss": 1 - one} for n, one in enumerate(accuracies)
                ],
            }
        ],
    }
