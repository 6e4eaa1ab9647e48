"""Estimators in the harness: from worker to record, control, verdict and leaderboard row."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from harness import toy_cell, toy_protocol, work
from toy import Evens

from lra_bench import api, registry
from lra_bench.data.prepare import prepare
from lra_bench.errors import DataError, LraBenchError, OptionError, UsageError
from lra_bench.estimator import Estimator
from lra_bench.fitting import first_examples, score_estimator
from lra_bench.record_store import load_records, read_predictions
from lra_bench.report.leaderboard import leaderboard
from lra_bench.train import StoppedError

ALL = ("accuracy", "time", "memory", "flops")
HERE = "test_estimators"


class Share(Estimator):
    """Of even tokens: a threshold between the classes' mean shares, times `gain`."""

    card = {**Estimator.card, "family": "control", "rules_out": "nothing, it is a test."}  # noqa: RUF012

    def __init__(self, spec, *, gain: float = 20.0, seed: int = 0) -> None:
        super().__init__(spec, seed=seed)
        if gain <= 0:
            raise OptionError(f"gain={gain} is out of range: expected above 0.")
        self.gain = gain

    def shares(self, split):
        tokens = split.tokens()
        return np.array([(tokens[i] % 2 == 0).mean() for i in range(len(tokens))])

    def fit(self, train):
        self.on_progress("averaging", 1, 2)
        shares = self.shares(train)
        self.threshold = np.mean([shares[train.labels == k].mean() for k in (0, 1)])
        self.on_progress("averaging", 2, 2)

    def log_probabilities(self, split):
        scores = self.gain * (self.shares(split) - self.threshold)
        return -np.logaddexp(0, np.stack([scores, -scores], axis=1))

    @property
    def num_parameters(self) -> int:
        return 1


class Sure(Share):
    """Gives one class all the probability."""

    def log_probabilities(self, split):
        return np.where(np.arange(2) == 1, 0.0, np.full((split.num_examples, 2), -np.inf))


class Unnormalised(Share):
    def log_probabilities(self, split):
        return super().log_probabilities(split) + 1


class Misshapen(Share):
    def log_probabilities(self, split):
        return super().log_probabilities(split)[:, :1]


class Hungry(Share):
    def fit(self, train):
        np.empty(2**60, np.uint8)


class Broken(Share):
    def fit(self, train):
        raise KeyError("a fault in somebody's estimator")


class Slow(Share):
    def fit(self, train):
        time.sleep(0.02)
        super().fit(train)


class NoEstimator:
    """Says that it is one."""

    card = {"kind": "estimator"}  # noqa: RUF012

    def __init__(self, spec, *, seed: int = 0) -> None: ...


class Dataless(Share):
    def fit(self, train):
        raise DataError("The source has gone.")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
    # Workers are processes of their own and find this module by its name.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def cell_of(name="Share", **arguments):
    return toy_cell(f"{HERE}:{name}", **arguments)


def test_an_estimator_becomes_an_ordinary_record(tmp_path):
    events = []
    cell = cell_of(metrics=ALL)
    record = work(cell, tmp_path, events=events)
    assert cell.metrics == ("accuracy",)
    assert record.status == "ok"
    assert (record.step_time, record.peak_memory, record.flops) == (None, None, None)
    accuracy = record.accuracy
    assert accuracy.best == accuracy.last
    assert [accuracy.best.n, accuracy.validation.n, accuracy.train.n] == [128, 64, 32]
    assert accuracy.best.accuracy > 0.8
    assert len(accuracy.curve) == 1
    assert accuracy.curve[0].validation_accuracy == accuracy.validation.accuracy
    assert {accuracy.best.step, accuracy.curve[0].step, accuracy.steps_to_target} == {1}
    assert accuracy.train_s == accuracy.curve[0].elapsed_s == accuracy.seconds_to_target
    assert record.model.parameters.total == record.model.parameters.core == 1
    assert record.model.ratio is None
    assert record.model.options == {"gain": 20.0}, "the seed is no option"
    assert record.verdict.label == "not_compared"
    assert list(record.task.splits) == ["train", "validation", "test"]
    assert load_records(tmp_path) == [record]
    packed = read_predictions(cell.record_path(tmp_path).with_suffix(".npz"))
    assert np.array_equal(packed["best"], packed["last"])
    assert (packed["best"] == packed["labels"]).sum() == accuracy.best.correct
    kinds = [event["event"] for event in events if event["event"] != "prepare"]
    assert kinds == ["prepared", "measured", "phase", "fit", "fit", "phase", "recorded"]
    assert not cell.partial_folder(tmp_path).exists()


def test_scores_are_those_of_the_examples(tmp_path):
    task = Evens()
    test = prepare(task, "test")
    estimator = Share(task.spec)
    estimator.fit(prepare(task, "train"))
    found = score_estimator(estimator, test)
    probabilities = np.exp(estimator.log_probabilities(test))
    assert found.correct == ((probabilities[:, 1] > 0.5) == test.labels).sum()
    chosen = probabilities[np.arange(128), test.labels]
    assert found.loss == pytest.approx(-np.log(chosen).mean())
    some = first_examples(test, 10)
    assert some.num_examples == 10
    assert np.array_equal(some.labels, test.labels[:10])
    assert some.tokens()[9].tolist() == test.tokens()[9].tolist()
    assert first_examples(test, 1000) is test


def test_probability_zero_costs_much_and_not_infinitely_much():
    task = Evens()
    test = prepare(task, "test")
    found = score_estimator(Sure(task.spec), test)
    assert found.loss == pytest.approx(708.4 * (test.labels == 0).mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "what"), [("Unnormalised", r"sum to 2\.7"), ("Misshapen", r"shape \(128, 1\).*\(128, 2\)")]
)
def test_what_is_no_probability_is_refused(name, what):
    task = Evens()
    estimator = globals()[name](task.spec)
    estimator.fit(prepare(task, "train"))
    with pytest.raises(LraBenchError, match=what):
        score_estimator(estimator, prepare(task, "test"))


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("Hungry", "oom", "allocate"),
        ("Broken", "error", "a fault in somebody's estimator"),
        ("Unnormalised", "error", "logarithms of probabilities"),
    ],
)
def test_failures_are_records(tmp_path, name, status, reason):
    record = work(cell_of(name), tmp_path)
    assert record.status == status
    assert reason in record.reason
    assert record.accuracy is None
    assert load_records(tmp_path) == [record]


def test_data_errors_are_no_records(tmp_path):
    with pytest.raises(DataError, match="has gone"):
        work(cell_of("Dataless"), tmp_path)
    assert load_records(tmp_path) == []


def test_time_limit(tmp_path):
    record = work(cell_of("Slow", protocol=toy_protocol(budget__time_limit_s=0.01)), tmp_path)
    assert record.status == "timeout"
    assert "time_limit_s=0.01" in record.reason
    assert record.accuracy is None


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_stopped_at_any_question_and_run_again(tmp_path, stop_after):
    cell = cell_of()
    whole = work(cell, tmp_path / "whole")
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        return asked == stop_after

    with pytest.raises(StoppedError):
        work(cell, tmp_path / "parts", should_stop=stop)
    assert load_records(tmp_path / "parts") == []
    again = work(cell, tmp_path / "parts")
    assert again.accuracy.best == whole.accuracy.best


def test_without_training_there_is_no_score():
    assert cell_of(protocol=toy_protocol(budget__steps=0)).metrics == ()


def test_precision_and_compiling_concern_models_only():
    assert cell_of(precision="bf16", compiled=True).run_id == cell_of().run_id


def test_options_are_checked_before_any_work():
    assert cell_of(assignments={"model.gain": 2}).model_options == {"gain": 2.0}
    assert cell_of(assignments={"model.gain": 2}).changed_options == {"gain": 2.0}
    with pytest.raises(OptionError, match="gain=-1"):
        cell_of(assignments={"model.gain": -1})
    with pytest.raises(UsageError, match="no option 'seed'"):
        cell_of(assignments={"model.seed": 1})


def test_only_estimators_are_estimators():
    with pytest.raises(UsageError, match="is no Estimator"):
        cell_of("NoEstimator")


def test_as_a_control_it_stands_beside_a_score_and_on_the_board(tmp_path, monkeypatch):
    """Through processes of their own, as `lra-bench run` does it."""
    entry = registry.tasks.get("toy:Evens")
    cell = toy_cell()
    with_control = registry.Entry(**{**vars(entry), "controls": (f"{HERE}:Share",)})
    monkeypatch.setattr(type(cell), "task_entry", with_control)
    events = []
    record = api.run_with_controls(cell, toy_protocol(), tmp_path, on_event=events.append)
    (level,) = record.verdict.controls
    assert level.name == f"{HERE}:Share"
    assert level.accuracy > 0.8
    assert record.verdict.label in ("chance", "not_above_controls")
    control = next(found for found in load_records(tmp_path) if found.run_id == level.run_id)
    assert control.model.control
    assert control.accuracy.best.accuracy == level.accuracy
    assert [event["what"] for event in events if event["event"] == "fit"]
    (board,) = leaderboard(load_records(tmp_path)).boards
    assert [row.control for row in board.rows] == [True, False]
    rows = len(events)
    again = api.run_with_controls(cell, toy_protocol(), tmp_path, on_event=events.append)
    assert again == record
    assert not [event for event in events[rows:] if event["event"] == "fit"], "finished cells are shown"
