"""What becomes of a piece of work, whatever happens to it. The worker is played, but for the last tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import toy_cell, work

from lra_bench.errors import CrowdedError, DataError, StorageError
from lra_bench.job import Job
from lra_bench.launch import execute as module
from lra_bench.launch.claims import Claim, is_held
from lra_bench.launch.execute import execute
from lra_bench.launch.launcher import Outcome, Work
from lra_bench.launch.local import InterruptedRunError, WorkerDiedError
from lra_bench.launch.pool import LocalPool
from lra_bench.record_store import read_record, write_record
from lra_bench.records import RunRecord

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def piece(tmp_path: Path) -> Work:
    return Work(toy_cell(), tmp_path)


def record_for(base: RunRecord, piece: Work, **changes: Any) -> RunRecord:
    return base.model_copy(update={"run_id": piece.cell.run_id, **changes})


def play(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Job], Any]) -> list[Job]:
    """Replaces the child process: `answer` gets the job and writes a record, raises or does nothing."""
    jobs: list[Job] = []

    def run_job(job: Job, *_: Any, **__: Any) -> None:
        jobs.append(job)
        answer(job)

    monkeypatch.setattr(module, "run_job", run_job)
    return jobs


def test_a_finished_cell_is_not_run_again(
    piece: Work, base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = play(monkeypatch, lambda _: None)
    write_record(piece.cell.record_path(piece.results), record_for(base, piece))
    assert execute(piece).state == "done"
    assert jobs == []


def test_a_cell_that_was_finished_while_the_claim_was_taken_is_not_run_again(
    piece: Work, base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = play(monkeypatch, lambda _: None)
    take = Claim.take

    def slowly(*arguments: Any) -> Claim | None:
        write_record(piece.cell.record_path(piece.results), record_for(base, piece))
        return take(*arguments)

    monkeypatch.setattr(Claim, "take", slowly)
    assert execute(piece).state == "done"
    assert jobs == []


def test_somebody_elses_cell_is_left_alone(piece: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = play(monkeypatch, lambda _: None)
    held = Claim.take(piece.cell.record_path(piece.results))
    assert held is not None
    with held:
        assert execute(piece).state == "elsewhere"
    assert jobs == []
    assert execute(piece).state == "done"
    assert not is_held(piece.cell.record_path(piece.results))


def test_an_error_is_run_again_only_when_asked(
    piece: Work, base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = play(monkeypatch, lambda _: None)
    broken = record_for(base, piece, status="error", reason="a fault", accuracy=None)
    write_record(piece.cell.record_path(piece.results), broken)
    assert execute(piece).state == "done"
    assert jobs == []
    execute(replace(piece, retry=True))
    assert len(jobs) == 1


def test_a_damaged_record_is_moved_aside_and_reported(
    piece: Work, base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = piece.cell.record_path(piece.results)
    whole = record_for(base, piece)
    play(monkeypatch, lambda _: write_record(path, whole))
    write_record(path, whole)
    half = path.read_bytes()[:1000]
    for number in (1, 2):
        path.write_bytes(half)
        events: list[Any] = []
        assert execute(piece, on_event=events.append).state == "done"
        assert read_record(path) == whole
        assert path.with_name(f"{path.name}.damaged-{number}").read_bytes() == half
        (told,) = [event["message"] for event in events if event["event"] == "damaged"]
        assert str(path) in told


def test_the_record_of_another_cell_is_damage(
    piece: Work, base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = play(monkeypatch, lambda _: None)
    write_record(piece.cell.record_path(piece.results), base.model_copy(update={"run_id": "0" * 16}))
    execute(piece)
    assert len(jobs) == 1


def test_the_scores_of_controls_reach_the_job(
    tmp_path: Path, base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    present, absent = toy_cell(assignments={"model.gain": 2}), toy_cell(assignments={"model.gain": 3})
    piece = Work(toy_cell(), tmp_path, controls=(present, absent))
    write_record(present.record_path(tmp_path), base.model_copy(update={"run_id": present.run_id}))
    jobs = play(monkeypatch, lambda _: None)
    events: list[Any] = []
    execute(piece, on_event=events.append)
    (level,) = jobs[0].controls
    assert base.accuracy is not None
    assert (level.run_id, level.accuracy) == (present.run_id, base.accuracy.best.accuracy)
    assert [event["message"] for event in events if event["event"] == "warning"] == [
        "The control toy:Mean has no record"
    ]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (WorkerDiedError("killed"), "lost"),
        (DataError("no data"), "failed"),
        (InterruptedRunError("stopped"), "stopped"),
        (ZeroDivisionError("a fault of ours"), "failed"),
    ],
)
def test_nothing_is_raised(
    piece: Work, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str
) -> None:
    def fail(_: Job) -> None:
        raise error

    play(monkeypatch, fail)
    assert execute(piece).state == state
    assert not is_held(piece.cell.record_path(piece.results))


def test_a_full_disk_is_waited_for(piece: Work, base: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    tries: list[Job] = []

    def full_at_first(job: Job) -> None:
        tries.append(job)
        if len(tries) < 4:
            raise StorageError("no space left")
        write_record(piece.cell.record_path(piece.results), record_for(base, piece))

    play(monkeypatch, full_at_first)
    events: list[Any] = []
    assert execute(piece, on_event=events.append).state == "done"
    waits = [event["wait_s"] for event in events if event["event"] == "storage"]
    assert waits == pytest.approx([0.01, 0.02, 0.04])

    stop = threading.Event()
    stop.set()
    assert execute(piece, stop).state == "stopped"


def test_what_is_too_large_beside_others_is_run_alone(
    tmp_path: Path, base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [Work(replace(toy_cell(), seed=seed), tmp_path) for seed in range(6)]
    inside: set[int] = set()
    alone: list[int] = []

    def answer(job: Job) -> None:
        seed = job.cell.seed
        inside.add(seed)
        time.sleep(0.05)
        try:
            if seed in (1, 2) and not job.alone:
                raise CrowdedError("out of memory")
            if job.alone:
                assert inside == {seed}
                alone.append(seed)
            changes = {"run_id": job.cell.run_id}
            write_record(job.cell.record_path(tmp_path), base.model_copy(update=changes))
        finally:
            inside.remove(seed)

    play(monkeypatch, answer)
    outcomes = []
    with LocalPool(workers=3) as pool:
        pool.submit(pieces)
        while len(outcomes) < len(pieces):
            outcomes += pool.poll(10)
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert sorted(alone) == [1, 2]


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_limits_are_records(tmp_path: Path) -> None:
    """Real workers: one is too slow, one too large, one is like a run by hand."""
    slow, large, plain = (toy_cell("toy:Slow"), toy_cell("toy:Large"), toy_cell())
    pieces = [
        Work(slow, tmp_path, time_limit_s=3),
        Work(large, tmp_path, memory_limit_bytes=2 * 2**30),
        Work(plain, tmp_path, threads=1),
    ]
    with LocalPool() as pool:
        pool.submit(pieces)
        outcomes: list[Outcome] = []
        while len(outcomes) < len(pieces):
            outcomes += pool.poll(60)
    assert [outcome.state for outcome in outcomes] == ["done", "done", "done"]
    records = [read_record(piece.cell.record_path(tmp_path)) for piece in pieces]
    assert [record.status for record in records] == ["timeout", "oom", "ok"]
    assert "3 s" in (records[0].reason or "")
    assert records[2].environment["threads"] == 1
    by_hand = work(plain, tmp_path / "by hand")
    assert records[2].accuracy is not None
    assert by_hand.accuracy is not None
    assert records[2].accuracy.best == by_hand.accuracy.best


@pytest.mark.usefixtures("environment")
def test_a_pool_that_is_stopped_keeps_checkpoints(tmp_path: Path) -> None:
    slow = Work(toy_cell("toy:Slow"), tmp_path)
    training = threading.Event()

    def on_event(_: str, event: Any) -> None:
        if event["event"] == "step":
            training.set()

    with LocalPool(on_event=on_event) as pool:
        pool.submit([slow, Work(toy_cell(), tmp_path)])
        assert training.wait(60)
        pool.stop()
        states: list[str] = []
        started = time.monotonic()
        while len(states) < 2 and time.monotonic() - started < 60:
            states += [outcome.state for outcome in pool.poll(10)]
    assert states == ["stopped", "stopped"]
    assert list(tmp_path.rglob("checkpoint.pt"))
    assert not is_held(slow.cell.record_path(tmp_path))
