"""Tuning with equal budgets: the list of trials, the choice, and what a record and a table say of it."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from harness import toy_cell, toy_protocol, work, write_protocol

from lra_bench.cell import Cell, resolve_cell
from lra_bench.errors import DataError
from lra_bench.launch.launcher import Outcome, Work
from lra_bench.record_store import load_records, read_record, record_files, write_record
from lra_bench.records import RunRecord
from lra_bench.report.leaderboard import leaderboard
from lra_bench.report.reproduction import command_of
from lra_bench.sweep import engine
from lra_bench.sweep.cells import resolve_items
from lra_bench.sweep.engine import Sweep
from lra_bench.sweep.plan import load_plan
from lra_bench.sweep.tuning import (
    Choice,
    can_be_tuned,
    choice_path,
    choose,
    multiples,
    trial_cells,
    trials_folder,
    tuned_cell,
)

ROOT = Path(__file__).resolve().parents[2]


def rates(cell: Cell) -> tuple[float, float]:
    return cell.settings.optimizer.learning_rate, cell.settings.optimizer.weight_decay


def test_the_list_of_trials() -> None:
    listed = multiples(200)
    assert listed[0] == (1.0, 1.0)
    assert multiples(5) == listed[:5], "asking for more keeps what is there"
    for column in zip(*listed[1:], strict=True):
        logs = sorted(math.log10(multiple) for multiple in column)
        assert -1 <= logs[0] < -0.9
        assert 0.9 < logs[-1] <= 1
        worst = max(abs(value - (2 * (i + 0.5) / len(logs) - 1)) for i, value in enumerate(logs))
        assert worst < 0.2, "spread evenly over the decades"


def test_every_model_gets_the_same_list_and_every_seed_the_same_trials() -> None:
    cell = toy_cell(metrics=("accuracy", "flops"))
    trials = trial_cells(cell, 4)
    assert trials[0].run_id == toy_cell().run_id, "the protocol's own values, seed 0, accuracy alone"
    assert trials[0].overrides == {}
    assert len({trial.run_id for trial in trials}) == 4
    assert {trial.seed for trial in trials} == {0}
    assert trial_cells(replace(cell, seed=7), 4) == trials
    other = trial_cells(toy_cell("toy:Plain"), 4)
    assert [rates(trial) for trial in other] == [rates(trial) for trial in trials]
    assert trials[1].overrides == dict(
        zip(("optimizer.learning_rate", "optimizer.weight_decay"), rates(trials[1]), strict=True)
    )
    around = trial_cells(toy_cell(assignments={"optimizer.learning_rate": 0.1}), 4)
    assert rates(around[2])[0] == pytest.approx(10 * rates(trials[2])[0], rel=0.01)


def test_controls_are_not_tuned() -> None:
    assert can_be_tuned(toy_cell())
    assert not can_be_tuned(resolve_cell("bag_of_tokens", "listops", device="cpu"))
    assert not can_be_tuned(toy_cell(metrics=("flops",))), "without a score there is nothing to choose by"


def scored(base: RunRecord, trials: Sequence[Cell], results: Path, scores: Sequence[float | None]) -> None:
    """A record for each trial; None for one that diverged after a high score."""
    assert base.accuracy is not None
    for trial, score in zip(trials, scores, strict=True):
        validation = base.accuracy.validation.model_copy(update={"accuracy": 1.0 if score is None else score})
        changes = {
            "run_id": trial.run_id,
            "status": "diverged" if score is None else "ok",
            "accuracy": base.accuracy.model_copy(update={"validation": validation}),
        }
        write_record(trial.record_path(trials_folder(results)), base.model_copy(update=changes))


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.7, 0.6], 1), ([0.5, 0.7, 0.7], 1), ([0.5, None, 0.6], 2), ([None, None, None], 0)],
)
def test_the_best_on_validation_and_of_equals_the_earlier(
    tmp_path: Path, base: RunRecord, scores: list[float | None], best: int
) -> None:
    trials = trial_cells(toy_cell(), 3)
    scored(base, trials, tmp_path, scores)
    choice = choose(trials, tmp_path)
    assert choice == Choice(best, *rates(trials[best]))


def test_a_choice_stays_whatever_becomes_of_the_trials(tmp_path: Path, base: RunRecord) -> None:
    trials = trial_cells(toy_cell(), 3)
    with pytest.raises(DataError, match="has no record"):
        choose(trials, tmp_path)
    scored(base, trials, tmp_path, [0.5, 0.7, 0.6])
    first = choose(trials, tmp_path)
    scored(base, trials, tmp_path, [0.9, 0.7, 0.6])
    assert choose(trials, tmp_path) == first
    for path in list(record_files(trials_folder(tmp_path))):
        path.unlink()
    assert choose(trials, tmp_path) == first
    choice_path(trials, tmp_path).write_text("{")
    with pytest.raises(DataError, match="Remove it to choose again"):
        choose(trials, tmp_path)


def test_a_tuned_cell_is_another_cell_and_an_untuned_one_has_its_old_id() -> None:
    cell = toy_cell()
    chosen = Choice(0, *rates(cell))
    assert tuned_cell(cell, chosen, 3).run_id != cell.run_id
    assert tuned_cell(cell, chosen, 3).run_id != tuned_cell(cell, chosen, 4).run_id
    tuned = tuned_cell(cell, Choice(1, 0.5, 0.25), 3)
    assert rates(tuned) == (0.5, 0.25)
    assert tuned.overrides == {}, "the rates are what tuning is about"
    assert Cell.from_json(tuned.to_json()) == tuned


def test_committed_records_keep_their_ids() -> None:
    """The ids of all that was published follow from what the records say."""
    records = load_records(ROOT / "results")
    assert len(records) > 50
    for record in records:
        cell = Cell(
            model=record.model.name,
            model_options=record.model.options,
            task=record.task.name,
            task_options={},
            task_parameters=record.task.parameters,
            protocol=record.protocol.name,
            protocol_sha256=record.protocol.sha256,
            ranks=record.protocol.ranks,
            overrides=record.protocol.overrides,
            settings=record.protocol.settings,
            device="cpu",
            device_slug=record.device,
            seed=record.seed,
            precision=record.precision,
            compiled=record.compiled,
            metrics=tuple(record.metrics),  # type: ignore[arg-type]
        )
        assert cell.run_id == record.run_id


class InProcess:
    """A launcher that runs cells in this process, one after another."""

    capacity = 1

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.ran: list[Work] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, pieces: Sequence[Work]) -> None:
        self.works += pieces

    def poll(self, timeout_s: float) -> list[Outcome]:
        outcomes = []
        for piece in self.works:
            work(piece.cell, piece.results)
            self.ran.append(piece)
            outcomes.append(Outcome(piece.cell.run_id, "done"))
        self.works = []
        return outcomes

    def stop(self) -> None:
        pass


def test_a_tuned_sweep_from_trials_to_the_table(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "POLL_S", 0.01)
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
    given: dict[str, Any] = {
        "models": "toy:Mean",
        "tasks": "toy:Evens",
        "protocol": str(write_protocol(tmp_path)),
        "seeds": 2,
        "tune": 3,
        "metrics": "accuracy",
        "device": "cpu",
        "results": tmp_path / "results",
    }
    plan = load_plan(None, given)
    launcher = InProcess()
    sweep = Sweep(resolve_items(plan), launcher)
    sweep.run(threading.Event())
    assert [entry.item.role for entry in sweep.entries] == ["trial"] * 3 + ["cell"] * 2
    assert len(launcher.ran) == 5
    trials = [read_record(entry.record_path) for entry in sweep.entries[:3]]
    best = max(trials, key=lambda record: record.accuracy.validation.accuracy if record.accuracy else 0)
    records = load_records(plan.results)
    assert [record.seed for record in records] in ([0, 1], [1, 0]), "trials stand in no table"
    for record in records:
        assert record.protocol.tuning_trials == 3
        assert record.protocol.settings.optimizer == best.protocol.settings.optimizer
        assert "--tune 3" in command_of(record)
    rerun = InProcess()
    Sweep(resolve_items(plan), rerun).run(threading.Event())
    assert rerun.ran == [], "the same choice, so the same cells"

    fixed = work(toy_cell(protocol=toy_protocol()), tmp_path / "fixed")
    boards = leaderboard([*records, fixed]).boards
    assert len(boards) == 2
    (tuned,) = [board for board in boards if board.group.tuning_trials]
    assert tuned.title.endswith(", tuned (3 trials)")
    assert "changed" not in tuned.title
    row = dict(zip(tuned.columns, tuned.rows[0].cells, strict=True))
    assert row["trials"] == "3"
    assert "n=2" in row["toy:Evens"]
