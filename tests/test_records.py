"""Records: round trip, refusal of what is not a record, atomic writes, damaged files among good ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from harness import toy_cell, work

from lra_bench import load_records, records_frame
from lra_bench.errors import DataError
from lra_bench.record_store import read_predictions, read_record, write_predictions, write_record
from lra_bench.records import RunRecord


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one finished run of every metric."""
    folder = tmp_path_factory.mktemp("results")
    os.environ["LRA_BENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    work(toy_cell(metrics=("accuracy", "time", "memory", "flops")), folder)
    return folder


@pytest.fixture
def record(results: Path) -> RunRecord:
    return load_records(results)[0]


def test_a_finished_run_has_everything(results: Path, record: RunRecord) -> None:
    assert record.status == "ok"
    assert record.accuracy is not None
    assert record.accuracy.best.n == 128
    assert record.accuracy.best.interval[0] < record.accuracy.best.accuracy < record.accuracy.best.interval[1]
    assert record.step_time is not None
    assert len(record.step_time.samples_s) >= 5
    assert record.step_time.batch_size == 16
    assert record.step_time.sequences_per_s == pytest.approx(16 / record.step_time.median_s)
    assert record.peak_memory is not None
    assert record.peak_memory.peak_bytes > record.peak_memory.state_bytes > 0
    assert record.flops is not None
    assert record.flops.step > record.flops.forward > 0
    assert {name: split.examples for name, split in record.task.splits.items()} == {
        "train": 256,
        "validation": 64,
        "test": 128,
    }
    assert record.task.length_quantiles["min"] == 3
    assert sum(record.task.length_histogram) == 256
    assert record.verdict is not None
    assert not list(results.rglob("*.partial")), "what was partial is gone"
    assert not list(results.rglob("*.lock"))


def test_round_trip(record: RunRecord, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_record(path, record)
    assert read_record(path) == record
    assert json.loads(path.read_text())["schema"] == 1


def test_predictions_give_the_recorded_score(results: Path, record: RunRecord) -> None:
    assert record.accuracy is not None
    path = next(results.rglob("*.json"))
    packed = read_predictions(path.with_name(record.accuracy.predictions_file))
    assert int((packed["best"] == packed["labels"]).sum()) == record.accuracy.best.correct
    assert int((packed["last"] == packed["labels"]).sum()) == record.accuracy.last.correct


def test_parameters_in_three_parts(record: RunRecord) -> None:
    """By hand: dim 8, vocabulary 11, 8 positions; FFN 16; one layer; head 8 -> 16 -> 2."""
    parameters = record.model.parameters
    assert parameters.embedding == 11 * 8 + 8 * 8
    mixer = 8 * 8 + 8
    ffn = (8 * 16 + 16) + (16 * 8 + 8)
    norms = 3 * 2 * 8
    head = (8 * 16 + 16) + (16 * 2 + 2)
    assert parameters.core == mixer + ffn + norms + head
    assert parameters.length_dependent == 0
    # The Transformer's mixer has four 8 x 8 projections with biases.
    assert record.model.ratio == pytest.approx(parameters.core / (4 * 72 + ffn + norms + head))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "JSON breaks at line"),
        (lambda text: text.replace('"seed":', '"sead": 1, "seed":'), "sead: Extra inputs"),
        (lambda text: text.replace('"status": "ok"', '"status": "fine"'), "status"),
        (lambda text: text.replace('"schema": 1', '"schema": 99'), "schema 99 is not known"),
        (lambda text: "[]", "schema None"),
    ],
)
def test_damaged_records_are_named_and_the_others_kept(
    results: Path, record: RunRecord, tmp_path: Path, damage, message: str
) -> None:
    good = next(results.rglob("*.json")).read_text()
    for name, text in (("good", good), ("bad", damage(good))):
        path = tmp_path / "runs" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    faults: list[DataError] = []
    assert load_records(tmp_path, faults=faults) == [record]
    assert len(faults) == 1
    assert "bad.json" in str(faults[0])
    assert message in str(faults[0])
    with pytest.raises(DataError, match=r"bad\.json"):
        load_records(tmp_path)


def test_binary_garbage_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "x.json"
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises(DataError, match="no UTF-8"):
        read_record(path)


def test_a_write_that_fails_leaves_the_old_record(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_record(path, record)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"x\.json"):
        write_record(path, record)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_predictions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    write_predictions(path, np.zeros(3), np.ones(3), np.ones(3))
    assert read_predictions(path)["last"].tolist() == [1, 1, 1]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"p\.npz"):
        read_predictions(path)


def test_frame(record: RunRecord) -> None:
    frame = records_frame([record])
    assert frame.loc[0, "model.name"] == "toy:Mean"
    assert frame.loc[0, "accuracy.best.n"] == 128
    assert not [name for name in frame.columns if name.endswith("samples_s")]
