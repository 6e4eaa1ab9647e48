"""The Python entry points, as README shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness import toy_protocol

import lra_bench
from lra_bench.errors import UsageError

TESTS = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def test_run_load_records_and_leaderboard(tmp_path: Path) -> None:
    events = []
    arguments = {
        "protocol": toy_protocol(),
        "device": "cpu",
        "metrics": ("accuracy",),
        "settings": {"model.gain": 2.0, "budget.steps": 6},
        "results": tmp_path,
    }
    record = lra_bench.run("toy:Mean", "toy:Evens", seed=1, on_event=events.append, **arguments)
    assert record.seed == 1
    assert record.protocol.settings.budget.steps == 6
    assert {"cell", "prepare", "step"} <= {event["event"] for event in events}
    assert lra_bench.load_records(tmp_path) == [record]
    assert lra_bench.run("toy:Mean", "toy:Evens", seed=1, **arguments) == record, "finished: not run again"
    assert "toy:Mean (gain=2.0)" in lra_bench.leaderboard([record]).markdown()
    again = lra_bench.run("toy:Mean", "toy:Evens", seed=1, overwrite=True, **arguments)
    assert again.accuracy is not None
    assert record.accuracy is not None
    assert again.accuracy.best == record.accuracy.best
    assert again.provenance["finished"] >= record.provenance["finished"]


@pytest.mark.slow
def test_controls_are_run_first_and_stand_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small ListOps with its four controls; their changes of data follow the cell's."""
    options = {
        "task.min_length": 8,
        "task.max_length": 32,
        "task.train_size": 400,
        "task.validation_size": 80,
    }
    options |= {"task.test_size": 100, "data.train_examples": 400, "evaluation.validation_examples": 80}
    protocol = toy_protocol(evaluation__test_examples=100)
    record = lra_bench.run(
        "transformer",
        "listops",
        protocol=protocol,
        device="cpu",
        metrics=("accuracy",),
        settings=options,
        results=tmp_path,
    )
    assert record.verdict is not None
    names = [control.name for control in record.verdict.controls]
    assert names == ["majority", "bag_of_tokens", "first_token", "root_arguments"]
    records = {one.run_id: one for one in lra_bench.load_records(tmp_path)}
    assert len(records) == 5
    for control in record.verdict.controls:
        beside = records[control.run_id]
        assert beside.task.splits["test"] == record.task.splits["test"], "the same test examples"
        assert beside.model.control


def test_load_model_and_load_task_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path))
    task = lra_bench.load_task("listops", min_length=8, max_length=64, train_size=32)
    model = lra_bench.load_model("linformer", task="listops", protocol="lite", rank=8)
    batch = next(iter(task.loader("train", batch_size=4)))
    logits = model(*batch.inputs)
    assert logits.shape == (4, 10)
    assert torch.isfinite(logits).all()
    with pytest.raises(UsageError, match="no option 'rnak'"):
        lra_bench.load_model("linformer", task="listops", rnak=8)


def test_the_package_says_what_it_has() -> None:
    for name in lra_bench.__all__:
        assert callable(getattr(lra_bench, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lra_bench.nothing  # noqa: B018
