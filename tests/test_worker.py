"""How a cell can end: every way is a record, except being stopped, which is continued."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness import toy_cell, toy_protocol, work
from killing import lasting

from lra_bench.errors import UsageError
from lra_bench.job import Job
from lra_bench.launch.local import run_job
from lra_bench.record_store import load_records
from lra_bench.records import ControlLevel
from lra_bench.train import StoppedError

ALL = ("accuracy", "time", "memory", "flops")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_stopped_at_any_question_and_resumed(tmp_path: Path, stop_after: int) -> None:
    """`should_stop` is asked after each measuring phase and each training step."""
    cell = toy_cell(metrics=("accuracy", "memory", "flops"))
    whole = work(cell, tmp_path / "whole")
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_after

    with pytest.raises(StoppedError):
        work(cell, tmp_path / "parts", should_stop=stop)
    assert load_records(tmp_path / "parts") == [], "what a run in progress keeps is no record"
    events: list[Any] = []
    resumed = work(cell, tmp_path / "parts", events=events)
    assert lasting(resumed) == lasting(whole)
    if stop_after >= 3:
        assert not [event for event in events if event.get("phase") in ("memory", "flops")], "measured twice"


def test_memory_is_the_same_in_every_repeat(tmp_path: Path) -> None:
    records = [work(toy_cell(metrics=("memory",)), tmp_path / str(i)) for i in range(2)]
    first, second = (record.peak_memory for record in records)
    assert first is not None
    assert second is not None
    assert first.peak_bytes == second.peak_bytes


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("toy:Hungry", "oom", "allocate"),
        ("toy:Broken", "error", "a fault in somebody's model"),
        ("toy:Exploding", "diverged", "not finite"),
    ],
)
def test_failures_are_records(tmp_path: Path, model: str, status: str, reason: str) -> None:
    record = work(toy_cell(model), tmp_path)
    assert record.status == status
    assert reason in (record.reason or "")
    assert list((tmp_path / "runs").rglob("*.json")), "it is on disk"


def test_time_limit_is_a_record_with_the_scores_so_far(tmp_path: Path) -> None:
    record = work(toy_cell(protocol=toy_protocol(budget__time_limit_s=1e-9)), tmp_path)
    assert record.status == "timeout"
    assert record.accuracy is not None
    assert record.accuracy.last.step == 1


def test_verdicts(tmp_path: Path) -> None:
    def level(name: str, accuracy: float) -> ControlLevel:
        return ControlLevel(name=name, accuracy=accuracy, n=128, run_id="0")

    record = work(toy_cell(), tmp_path / "a")
    assert record.verdict is not None
    assert record.verdict.label in ("chance", "not_compared")
    learned = toy_cell(protocol=toy_protocol(budget__steps=200, optimizer__learning_rate=0.02))
    for number, (controls, label) in enumerate(
        [
            ((), "not_compared"),
            ((level("weak", 0.50),), "above_controls"),
            ((level("weak", 0.50), level("strong", 0.999)), "not_above_controls"),
        ]
    ):
        verdict = work(learned, tmp_path / str(number), controls=controls).verdict
        assert verdict is not None
        assert verdict.label == label
        assert [control.name for control in verdict.controls] == [control.name for control in controls]
    assert verdict is not None
    assert "below the control strong" in verdict.text


def test_speed_only(tmp_path: Path) -> None:
    record = work(toy_cell(metrics=("time", "memory", "flops")), tmp_path)
    assert record.accuracy is None
    assert record.verdict is None
    assert record.step_time is not None
    assert list(record.task.splits) == ["train"]


def test_seeds_differ(tmp_path: Path) -> None:
    curves = [work(toy_cell(seed=seed), tmp_path).accuracy.curve for seed in (0, 1)]
    assert curves[0] != curves[1]


def test_measurements_survive_as_json(tmp_path: Path) -> None:
    cell = toy_cell(metrics=("memory", "flops"))

    def stop() -> bool:
        return True

    with pytest.raises(StoppedError):
        work(cell, tmp_path, should_stop=stop)
    kept = json.loads((cell.partial_folder(tmp_path) / "measurements.json").read_text())
    assert kept.keys() == {"flops", "processes"}


def test_code_that_changed_since_the_plan_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody edits a model while a sweep that has it is under way."""
    text = "from toy import Mean\n\n\nclass Mine(Mean):\n    'My own.'\n"
    module = tmp_path / "edited_later.py"
    module.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parent)]))
    cell = toy_cell("edited_later:Mine")
    module.write_text(text + "    other = True\n")
    with pytest.raises(
        UsageError, match="edited_later:Mine here is not what it was when the cell was planned"
    ):
        run_job(Job(cell, tmp_path / "results"), lambda _: None)
    assert load_records(tmp_path / "results") == []
    module.write_text(text)
    assert run_job(Job(cell, tmp_path / "results"), lambda _: None).status == "ok"
