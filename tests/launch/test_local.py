"""The launcher's answer to a worker that the kernel ended for its memory."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from harness import toy_cell

from lra_bench.errors import CellFailedError, CrowdedError
from lra_bench.job import Job
from lra_bench.launch import local

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def job(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A cell whose worker dies by SIGKILL in its first step."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
    return Job(toy_cell("toy:SilentlyKilled"), tmp_path)


def test_a_kill_for_memory_is_an_oom_record(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = itertools.chain([0], itertools.repeat(1))  # the kernel counts one kill during the run
    monkeypatch.setattr(local, "oom_kills", lambda: next(counter))
    record = local.run_job(job)
    assert record.status == "oom"
    assert "the kernel ended the worker" in (record.reason or "")
    assert record.accuracy is None
    assert job.finished() == record


def test_beside_others_a_kill_for_memory_says_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = itertools.chain([0], itertools.repeat(1))
    monkeypatch.setattr(local, "oom_kills", lambda: next(counter))
    with pytest.raises(CrowdedError):
        local.run_job(replace(job, alone=False))
    assert job.finished() is None


def test_any_other_kill_is_none(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "oom_kills", lambda: 7)
    with pytest.raises(CellFailedError, match="killed by SIGKILL"):
        local.run_job(job)
    assert job.finished() is None


@pytest.mark.parametrize("own", ["", "job_7/step_0"])
def test_the_kernels_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    """Of this process's own group: SLURM and systemd make them."""
    groups = tmp_path / "groups"
    events = groups / own / "memory.events"
    events.parent.mkdir(parents=True)
    (tmp_path / "self").write_text(f"1:name=x:/\n0::/{own}\n")
    monkeypatch.setattr(local, "_CGROUPS", groups)
    monkeypatch.setattr(local, "_OWN_CGROUP", tmp_path / "self")
    assert local.oom_kills() == 0, "no such file"
    events.write_text("low 0\nhigh 3\nmax 5\noom 2\noom_kill 4\n")
    assert local.oom_kills() == 4
