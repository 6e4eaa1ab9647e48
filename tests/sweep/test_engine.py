"""The loop of a sweep, with a launcher that is played: who waits for whom, and what is tried again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from harness import toy_cell

from lra_bench.cell import Cell
from lra_bench.errors import StorageError
from lra_bench.launch.claims import Claim, claim_path, host_identity
from lra_bench.launch.launcher import Outcome, State, Work
from lra_bench.record_store import read_record, write_record
from lra_bench.records import RunRecord
from lra_bench.sweep import engine
from lra_bench.sweep.cells import Item
from lra_bench.sweep.engine import DEATHS_IN_A_ROW, Sweep


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "ELSEWHERE_EVERY_S", "FIRST_WAIT_S", "SILENCE_S"):
        monkeypatch.setattr(engine, name, 0.01)


class Played:
    """A launcher that answers each piece of work at the next poll: a state, or a record's status."""

    def __init__(
        self, base: RunRecord, answer: Callable[[Cell], str] = lambda _: "ok", capacity: int = 2
    ) -> None:
        self.capacity = capacity
        self.base = base
        self.answer = answer
        self.works: list[Work] = []
        self.waiting: list[Work] = []
        self.was_stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Sequence[Work]) -> None:
        self.works += work
        self.waiting += work
        assert len(self.waiting) <= self.capacity

    def poll(self, timeout_s: float) -> list[Outcome]:
        outcomes = [self._outcome(work) for work in self.waiting]
        self.waiting = []
        return outcomes

    def stop(self) -> None:
        self.was_stopped = True

    def _outcome(self, work: Work) -> Outcome:
        answer = "stopped" if self.was_stopped else self.answer(work.cell)
        states: dict[str, State] = {name: name for name in ("failed", "lost", "stopped", "elsewhere")}
        if answer not in states:
            write(self.base, work.cell, work.results, answer)
        return Outcome(work.cell.run_id, states.get(answer, "done"), "because")

    @property
    def ran(self) -> list[str]:
        return [work.cell.run_id for work in self.works]


def write(base: RunRecord, cell: Cell, results: Path, status: str = "ok") -> None:
    accuracy = base.accuracy if status == "ok" else None
    changes = {"run_id": cell.run_id, "status": status, "reason": status, "accuracy": accuracy}
    write_record(cell.record_path(results), base.model_copy(update=changes))


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """A control and three cells that need it."""
    control = replace(toy_cell(), seed=100)
    cells = [replace(toy_cell(), seed=seed) for seed in range(3)]
    return [
        Item(control, tmp_path, "control"),
        *(Item(cell, tmp_path, "cell", controls=(control,)) for cell in cells),
    ]


def ids(items: Sequence[Item]) -> list[str]:
    return [item.cell.run_id for item in items]


def run(sweep: Sweep) -> Sweep:
    sweep.run(threading.Event())
    return sweep


def test_controls_first_then_everything_once(items: list[Item], base: RunRecord) -> None:
    launcher = Played(base)
    sweep = run(Sweep(items, launcher, command="lra-bench sweep"))
    assert launcher.ran == ids(items)
    assert launcher.works[1].controls == (items[0].cell,)
    assert launcher.works[1].command == "lra-bench sweep"
    assert all(entry.is_ok for entry in sweep.entries)
    assert not sweep.stopped

    again = run(Sweep(items, second := Played(base)))
    assert second.ran == []
    assert all(entry.was_there for entry in again.entries)


def test_no_cell_starts_before_its_control_has_ended(items: list[Item], base: RunRecord) -> None:
    """Also where somebody else runs the control."""
    claim = Claim.take(items[0].cell.record_path(items[0].results))
    assert claim is not None
    launcher = Played(base)
    looks = 0

    def on_event(event: Mapping[str, Any]) -> None:
        nonlocal looks
        if event["event"] == "state" and event["entry"].state == "elsewhere":
            looks += 1
            threading.Timer(0.2, finish).start()

    def finish() -> None:
        assert launcher.ran == []
        write(base, items[0].cell, items[0].results)
        claim.release()

    sweep = run(Sweep(items, launcher, on_event=on_event))
    assert looks == 1
    assert launcher.ran == ids(items)[1:], "the other's record counts"
    assert all(entry.is_ok for entry in sweep.entries)


def test_a_cell_whose_other_owner_dies_is_taken_up(items: list[Item], base: RunRecord) -> None:
    claim = Claim.take(items[2].cell.record_path(items[2].results))
    assert claim is not None
    threading.Timer(0.3, claim.release).start()  # without a record
    launcher = Played(base)
    run(Sweep(items, launcher))
    assert sorted(launcher.ran) == sorted(ids(items))


def test_a_control_that_fails_does_not_hold_up_the_others(items: list[Item], base: RunRecord) -> None:
    launcher = Played(base, lambda cell: "failed" if cell.seed == 100 else "ok")
    sweep = run(Sweep(items, launcher))
    assert [entry.state for entry in sweep.entries] == ["failed", "done", "done", "done"]
    assert sweep.entries[0].reason == "because"


def test_every_way_to_end_is_reported(items: list[Item], base: RunRecord) -> None:
    answers = {0: "oom", 1: "timeout", 2: "error", 100: "ok"}
    sweep = run(Sweep(items, Played(base, lambda cell: answers[cell.seed])))
    assert [entry.status for entry in sweep.entries] == ["ok", "oom", "timeout", "error"]
    assert [entry.is_ok for entry in sweep.entries] == [True, False, False, False]
    assert sweep.entries[3].state == "failed"


def test_errors_are_run_again_when_asked_and_then_once(items: list[Item], base: RunRecord) -> None:
    run(Sweep(items, Played(base, lambda cell: "error" if cell.seed < 2 else "oom")))
    untouched = Played(base)
    sweep = run(Sweep(items, untouched))
    assert untouched.ran == []
    assert [entry.state for entry in sweep.entries] == ["done", "failed", "failed", "done"]

    mended = Played(base, lambda cell: "ok" if cell.seed == 0 else "error")
    sweep = run(Sweep(items, mended, retry=True))
    assert mended.ran == ids(items)[1:3]
    assert all(work.retry for work in mended.works)
    assert [entry.status for entry in sweep.entries] == ["oom", "ok", "error", "oom"]


def test_it_stops_after_so_many_failures(items: list[Item], base: RunRecord) -> None:
    launcher = Played(base, lambda _: "error", capacity=1)
    sweep = run(Sweep(items, launcher, max_failures=2))
    assert launcher.ran == ids(items)[:2]
    assert launcher.was_stopped
    assert "2 cells failed" in sweep.stopped
    results = Played(base, lambda _: "oom", capacity=1)
    assert not run(Sweep([replace(item, controls=()) for item in items[2:]], results, max_failures=1)).stopped


def test_stopping_waits_for_what_runs_and_the_next_sweep_goes_on(items: list[Item], base: RunRecord) -> None:
    stop = threading.Event()

    def answer(cell: Cell) -> str:
        if cell.seed != 0:
            return "ok"
        stop.set()
        return "stopped"

    launcher = Played(base, answer, capacity=1)
    sweep = Sweep(items, launcher)
    sweep.run(stop)
    assert sweep.stopped == "interrupted"
    assert launcher.was_stopped
    assert [entry.state for entry in sweep.entries] == ["done", "waiting", "waiting", "waiting"]
    second = Played(base)
    run(Sweep(items, second))
    assert second.ran == ids(items)[1:]


def test_a_damaged_record_is_no_record(items: list[Item], base: RunRecord) -> None:
    run(Sweep(items, Played(base)))
    path = items[1].cell.record_path(items[1].results)
    path.write_bytes(path.read_bytes()[:500])
    launcher = Played(base)
    run(Sweep(items, launcher))
    assert launcher.ran == [items[1].cell.run_id]


def test_a_record_that_is_damaged_while_the_sweep_runs(items: list[Item], base: RunRecord) -> None:
    path = items[1].cell.record_path(items[1].results)
    damaged = []

    def answer(cell: Cell) -> str:
        if cell.seed == 2 and not damaged:
            path.write_text("{")
            damaged.append(True)
        return "ok"

    launcher = Played(base, answer, capacity=1)
    sweep = run(Sweep(items, launcher))
    assert launcher.ran == [*ids(items), items[1].cell.run_id]
    assert all(entry.is_ok for entry in sweep.entries)
    assert read_record(path).run_id == items[1].cell.run_id


def test_what_a_dead_runner_left_of_a_finished_cell_is_cleared_up(items: list[Item], base: RunRecord) -> None:
    """A sweep was killed, and its worker came as far as the record; another cell is being finished now."""
    dead, alive = items[1], items[2]
    for item in (dead, alive):
        write(base, item.cell, item.results)
        partial = item.cell.partial_folder(item.results)
        partial.mkdir()
        (partial / "checkpoint.pt").write_bytes(b"")
    path = claim_path(dead.cell.record_path(dead.results))
    gone = {"host": host_identity(), "pid": 2**22 + 1, "started": "1", "token": "t", "lease_s": 120.0}
    path.write_text(json.dumps(gone))
    claim = Claim.take(alive.cell.record_path(alive.results))
    assert claim is not None
    run(Sweep(items, Played(base)))
    assert not path.exists()
    assert not dead.cell.partial_folder(dead.results).exists()
    assert claim.path.exists()
    assert alive.cell.partial_folder(alive.results).exists()


def test_a_killed_worker_is_started_again_and_one_that_always_dies_is_given_up(
    items: list[Item], base: RunRecord
) -> None:
    deaths = {0: 2, 1: 100, 2: 0, 100: 0}

    def answer(cell: Cell) -> str:
        deaths[cell.seed] -= 1
        return "ok" if deaths[cell.seed] < 0 else "lost"

    sweep = run(Sweep(items, Played(base, answer)))
    assert [entry.state for entry in sweep.entries] == ["done", "done", "failed", "done"]
    assert deaths[1] == 100 - DEATHS_IN_A_ROW
    assert "deaths in a row" in sweep.entries[2].reason


def test_deaths_do_not_count_where_there_is_progress(items: list[Item], base: RunRecord) -> None:
    cell = items[1].cell
    checkpoint = cell.partial_folder(items[1].results) / "checkpoint.pt"
    deaths = []

    def answer(other: Cell) -> str:
        if other.run_id != cell.run_id or len(deaths) == 3 * DEATHS_IN_A_ROW:
            return "ok"
        deaths.append(True)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write_bytes(b"further")
        os.utime(checkpoint, (len(deaths), len(deaths)))
        return "lost"

    sweep = run(Sweep(items, Played(base, answer)))
    assert all(entry.is_ok for entry in sweep.entries)


def test_a_folder_that_cannot_be_read_for_a_while(
    items: list[Item], base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = engine.is_held, iter([StorageError("no space left")] * 3)

    def sometimes(path: Path) -> bool:
        for failure in failures:
            raise failure
        return real(path)

    monkeypatch.setattr(engine, "is_held", sometimes)
    events: list[Mapping[str, Any]] = []
    sweep = run(Sweep(items, Played(base), on_event=events.append))
    assert sum(event["event"] == "storage" for event in events) == 3
    assert all(entry.is_ok for entry in sweep.entries)
