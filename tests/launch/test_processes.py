"""A cell over several processes as it is started, killed, continued and refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import toy_cell, toy_protocol, work, write_protocol
from killing import kill_at, lasting

from lra_bench.errors import UsageError
from lra_bench.job import Job
from lra_bench.launch.local import run_job
from lra_bench.launch.processes import check_processes, worker_command, worker_environment
from lra_bench.record_store import load_records
from lra_bench.records import RunRecord

TESTS = Path(__file__).resolve().parents[1]
NO_DROPOUT = {"architecture__dropout": 0.0}
TORCHRUN = {
    "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "here", "MASTER_PORT": "1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
    monkeypatch.setenv("LRA_BENCH_CHECKPOINT_S", "0")


def rounded(record: RunRecord) -> Any:
    """What lasts of a record, numbers to five digits."""

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: of(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [of(one) for one in value]
        return float(np.format_float_scientific(value, 4)) if isinstance(value, float) else value

    return of(lasting(record))


def predictions(record: RunRecord, results: Path) -> list[int]:
    (path,) = results.rglob("*.npz")
    with np.load(path) as found:
        assert {"best", "last"} <= {*found}, [*found]
        return [*found["best"].tolist(), *found["last"].tolist()]


@pytest.mark.slow
def test_killed_in_two_processes_and_continued_in_one(tmp_path: Path) -> None:
    protocol = toy_protocol(**NO_DROPOUT, budget__steps=40)
    cell = toy_cell(protocol=protocol)
    whole = work(cell, tmp_path / "whole")
    path, results = write_protocol(tmp_path, **NO_DROPOUT, budget__steps=40), tmp_path / "parts"
    names = ["--model", cell.model, "--task", cell.task, "--protocol", str(path), "--device", "cpu"]
    more = ["--metrics", "accuracy", "--results", str(results), "--no-controls"]
    command = [sys.executable, "-P", "-m", "lra_bench", "run", *names, *more, "--nproc", "2"]
    assert kill_at("training ", command, os.environ, results)
    assert load_records(results) == []
    record = run_job(Job(cell, results))
    assert rounded(record) == rounded(whole)
    assert predictions(record, results) == predictions(whole, tmp_path / "whole")
    assert (whole.environment["processes"], record.environment["processes"]) == (1, 1)


def test_a_failure_of_any_process_is_the_record(tmp_path: Path) -> None:
    """And up to there they were two, with one thread each."""
    job = Job(toy_cell("toy:HungryInSecond", metrics=("accuracy", "flops")), tmp_path, processes=2)
    events: list[str] = []
    record = run_job(job, lambda event: events.append(event["event"]))
    assert record.status == "oom"
    assert (record.reason or "").startswith("in process 1: ")
    assert record.environment["processes"] == 2
    assert record.flops is not None
    assert events.count("recorded") == 1
    assert events.count("prepared") == 1, "one process tells"


@pytest.mark.slow
def test_by_torchrun_with_controls_and_once_more(tmp_path: Path) -> None:
    """Each process runs the command; of a finished cell too all of them end."""
    path, results = write_protocol(tmp_path, **NO_DROPOUT), tmp_path / "results"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    names = ["--model", "toy:Mean", "--task", "toy:Evens", "--protocol", str(path), "--device", "cpu"]
    command = [*torchrun, "-m", "lra_bench", "run", *names, "--results", str(results)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Test accuracy") == 1
    (record,) = (one for one in load_records(results) if one.model.name == "toy:Mean")
    assert record.environment["processes"] == 2
    whole = work(toy_cell(protocol=toy_protocol(**NO_DROPOUT)), tmp_path / "whole")
    assert record.accuracy is not None
    assert whole.accuracy is not None
    assert record.accuracy.best.correct == whole.accuracy.best.correct


def test_what_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (Job(toy_cell(), tmp_path, processes=count) for count in (1, 2))
    monkeypatch.setattr("lra_bench.launch.processes.available_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "torch.distributed.run" in worker_command(two)
    assert worker_environment(two)["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in worker_environment(one)
    assert "OMP_NUM_THREADS" not in worker_environment(Job(toy_cell(), tmp_path, threads=2)), (
        "of training only"
    )
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    # A control, which one process runs while the others wait, and the cell itself.
    assert not TORCHRUN.keys() & worker_environment(one).keys()
    assert TORCHRUN.items() <= worker_environment(two).items()
    assert worker_command(two) == worker_command(one), "torchrun is there already"


@pytest.mark.parametrize(
    ("cell", "processes", "message"),
    [
        (toy_cell, 0, "at least 1"),
        (toy_cell, 17, "batch of 16"),
        (lambda: toy_cell("toy:Normalised"), 2, "normalises over the batch"),
        (lambda: toy_cell("test_estimators:Share"), 2, "solver"),
    ],
)
def test_what_can_not_be_shared(cell: Any, processes: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_processes(cell(), processes)


def test_each_process_needs_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda = replace(toy_cell(), device="cuda")
    check_processes(cuda, 2)
    with pytest.raises(UsageError, match="it has 2"):
        check_processes(cuda, 3)
    for one in ("cuda:1", "mps"):
        with pytest.raises(UsageError, match="device of its own"):
            check_processes(replace(cuda, device=one), 2)
