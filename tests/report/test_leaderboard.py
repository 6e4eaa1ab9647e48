"""Boards: what is never mixed, controls first, reasons for missing cells, same bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from altered import altered
from synthetic_session import cell, session

from lra_bench.record_store import read_correct, write_predictions
from lra_bench.records import RunRecord, Score
from lra_bench.report.artefacts import artefacts
from lra_bench.report.board import Leaderboard
from lra_bench.report.leaderboard import leaderboard
from lra_bench.report.scoring import summarise, task_score


def score(accuracy: float, n: int = 2000) -> Score:
    return Score(step=1, accuracy=accuracy, correct=round(accuracy * n), n=n, interval=(0, 1), loss=1)


def variant(base: RunRecord, run_id: str, **changes: Any) -> RunRecord:
    """A record like `base` with another accuracy, or none, and other values."""
    accuracy = changes.pop("accuracy", 0.6)
    if accuracy is None:
        changes["accuracy"] = None
    else:
        changes["accuracy__best"] = score(accuracy).model_dump()
    return altered(base, run_id, **changes)


def row(board: Leaderboard, model: str, index: int = 0) -> list[str]:
    return next(r.cells for r in board.boards[index].rows if r.cells[0] == model)


def test_controls_are_the_first_rows(base: RunRecord) -> None:
    records = [
        variant(base, "1", model__name="zeta", model__family="exact"),
        variant(base, "2", model__name="majority", model__family="control", model__control=True),
        variant(base, "3", model__name="transformer", model__family="exact"),
    ]
    board = leaderboard(records).boards[0]
    assert [r.cells[0] for r in board.rows] == ["majority", "transformer", "zeta"]
    assert [r.control for r in board.rows] == [True, False, False]


@pytest.mark.parametrize(
    "change",
    [
        {"device": "other-device"},
        {"protocol__name": "lite"},
        {"protocol__sha256": "0" * 64},
        {"protocol__overrides": {"budget.steps": 3}},
        {"precision": "bf16"},
        {"compiled": True},
    ],
)
def test_what_is_never_in_one_table(base: RunRecord, change: dict[str, Any]) -> None:
    boards = leaderboard([variant(base, "1"), variant(base, "2", **change)]).boards
    assert len(boards) == 2
    assert len({board.title + board.notes[0] for board in boards}) == 2


def test_controls_stand_beside_changed_training_but_not_beside_changed_data(base: RunRecord) -> None:
    control = variant(base, "1", model__name="majority", model__control=True)
    longer = variant(base, "2", protocol__overrides={"budget.steps": 3})
    other_data = variant(base, "3", protocol__overrides={"task.length": 9})
    boards = leaderboard([control, longer, other_data]).boards
    names = {board.title.partition("changed: ")[2]: [r.cells[0] for r in board.rows] for board in boards}
    assert names["budget.steps=3"] == ["majority", "toy:Mean"]
    assert names["task.length=9"] == ["toy:Mean"]
    assert set(names) == {"budget.steps=3", "task.length=9"}, "no table of controls alone"


def test_two_versions_of_the_data_are_two_columns(base: RunRecord) -> None:
    other = variant(base, "2", model__name="other", task__splits__test__sha256="f" * 64)
    board = leaderboard([variant(base, "1"), other]).boards[0]
    assert len(board.columns) == 5
    assert sum("-" in r.cells[3:] for r in board.rows) == 2


@pytest.mark.parametrize(
    ("status", "shown"),
    [("oom", "OOM"), ("timeout", "T/O"), ("diverged", "NaN"), ("error", "error"), ("unsupported", "n/a")],
)
def test_missing_cells_say_why(base: RunRecord, status: str, shown: str) -> None:
    failed = variant(base, "1", model__name="failed", status=status, reason="because", accuracy=None)
    board = leaderboard([failed, variant(base, "2")])
    assert row(board, "failed")[3] == shown
    assert f"{status}: because" in board.markdown()


def test_not_run_and_speed_only(base: RunRecord) -> None:
    second_task = variant(base, "2", model__name="other", task__name="second")
    speed = variant(base, "3", model__name="fast", accuracy=None, task__splits={})
    board = leaderboard([variant(base, "1"), second_task, speed])
    assert row(board, "other")[3:][board.boards[0].columns[3:].index("toy:Evens")] == "-"
    assert "speed only" in row(board, "fast")


def test_seeds_are_averaged_and_failures_counted(base: RunRecord) -> None:
    records = [variant(base, str(seed), seed=seed, accuracy=0.5 + 0.1 * seed) for seed in range(3)]
    records.append(variant(base, "9", seed=9, status="diverged", accuracy=None))
    cell = row(leaderboard(records), "toy:Mean")[3]
    assert cell.startswith("60.0 (")
    assert "n=3, 1 failed" in cell


@pytest.mark.parametrize(
    ("labels", "holds"),
    [
        (("chance", "not_above_controls"), "not_above_controls"),
        (("chance", "chance"), "chance"),
        (("not_above_controls", "above_controls"), "mixed"),
    ],
)
def test_a_verdict_is_what_holds_of_every_seed(base: RunRecord, labels: tuple[str, str], holds: str) -> None:
    runs = []
    for seed, label in enumerate(labels):
        content = base.model_dump(by_alias=True)
        content |= {"run_id": f"r{seed}", "seed": seed, "verdict": {**content["verdict"], "label": label}}
        runs.append(RunRecord.model_validate(content))
    assert task_score("toy", runs).verdict == holds


def test_options_that_differ_are_rows_of_their_own(base: RunRecord) -> None:
    board = leaderboard([variant(base, "1"), variant(base, "2", model__changed_options={"gain": 2.0})])
    assert [r.cells[0] for r in board.boards[0].rows] == ["toy:Mean", "toy:Mean (gain=2.0)"]


def test_many_parameters_are_marked(base: RunRecord) -> None:
    assert row(leaderboard([variant(base, "1", model__ratio=1.10)]), "toy:Mean")[2] == "1.10"
    assert row(leaderboard([variant(base, "1", model__ratio=1.11)]), "toy:Mean")[2] == "1.11 !"
    both = [variant(base, "1", model__ratio=1.05), variant(base, "2", model__ratio=4.47, task__name="b")]
    assert row(leaderboard(both), "toy:Mean")[2] == "1.05 to 4.47 !"


def test_same_bytes_in_any_order(base: RunRecord) -> None:
    records = [
        variant(base, str(i), model__name=f"m{i % 3}", seed=i, accuracy=0.5 + i / 40) for i in range(9)
    ]
    text = leaderboard(records).markdown()
    random.Random(0).shuffle(records)
    assert leaderboard(records).markdown() == text
    assert leaderboard([]).markdown().endswith("No records yet.\n")


def test_a_bar_in_a_name_does_not_break_the_table(base: RunRecord) -> None:
    text = leaderboard([variant(base, "1", model__name="a|b", reason="c\nd", status="error")]).markdown()
    assert "a\\|b" in text
    assert "c d" in text


def test_summary_over_seeds_by_hand() -> None:
    one = summarise([score(0.5)])
    assert (one.low, one.high) == pytest.approx((0.47809, 0.52191), abs=1e-4)  # Wilson, n = 2,000
    three = summarise([score(0.4), score(0.5), score(0.6)])
    # sd 0.1, t(0.975, 2) = 4.30265; examples: 1.96 sqrt(.25 / 2000) = 0.021913
    half = ((4.30265 * 0.1 / 3**0.5) ** 2 + 0.021913**2) ** 0.5
    assert (three.mean, three.low, three.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-5)


def test_models_of_a_column_that_can_not_be_told_apart_share_a_letter(base: RunRecord) -> None:
    levels = {"best": 0.9, "second": 0.88, "last": 0.5}
    records, known = [], {}
    for name, level in levels.items():
        for seed in range(3):
            record = variant(base, f"{name}{seed}", model__name=name, seed=seed, accuracy=level)
            records.append(record)
            known[record.run_id] = np.random.default_rng([seed, len(name)]).random(500) < level
    records.append(variant(base, "alone", model__name="alone"))
    known["alone"] = np.ones(500, dtype=bool)
    board = leaderboard(records, correctness=lambda record: known[record.run_id])
    ends = {name: row(board, name)[3].split()[-1] for name in (*levels, "alone")}
    assert (ends["best"], ends["second"], ends["last"]) == ("a", "a", "b")
    assert ends["alone"] not in {"a", "b"}, "one seed is compared with nobody"
    assert row(leaderboard(records), "best")[3].endswith("n=3) (?)"), "nothing known, nothing compared"


def test_correctness_is_read_from_beside_the_record(tmp_path: Path, base: RunRecord) -> None:
    path = tmp_path / "one.json"
    assert read_correct(path, base) is None, "no predictions there"
    assert base.accuracy is not None
    best, labels = np.array([1, 0, 2]), np.array([1, 1, 2])
    write_predictions(tmp_path / base.accuracy.predictions_file, best, best, labels)
    found = read_correct(path, base)
    assert found is not None
    assert found.tolist() == [True, False, True]


FIVE = ("listops", "text", "retrieval", "image", "pathfinder")


def ranked(base: RunRecord, task: str, accuracy: float | None, **changes: Any) -> RunRecord:
    return variant(
        base,
        f"{task}{accuracy}{len(changes)}",
        accuracy=accuracy,
        protocol__ranks=True,
        task__name=task,
        **changes,
    )


def test_an_average_is_blank_unless_all_its_tasks_are_there(base: RunRecord) -> None:
    records = [ranked(base, task, 0.5 + 0.1 * place) for place, task in enumerate(FIVE)]
    board = leaderboard(records)
    columns = board.boards[0].columns
    cells = dict(zip(columns, row(board, "toy:Mean"), strict=True))
    assert (cells["average of 5"], cells["average of 6"], cells["tasks"]) == ("70.0", "", "5/6")
    six = leaderboard([*records, ranked(base, "pathx", 0.4)])
    cells = dict(zip(six.boards[0].columns, row(six, "toy:Mean"), strict=True))
    assert (cells["average of 5"], cells["average of 6"], cells["tasks"]) == ("70.0", "65.0", "6/6")
    four = leaderboard(records[1:])
    cells = dict(zip(four.boards[0].columns, row(four, "toy:Mean"), strict=True))
    assert (cells["average of 5"], cells["tasks"]) == ("", "4/6")


def test_two_versions_of_a_tasks_data_have_no_average(base: RunRecord) -> None:
    records = [ranked(base, task, 0.5) for task in FIVE]
    content = records[0].model_dump(by_alias=True)
    content["run_id"] = "other"
    content["task"]["splits"]["test"]["sha256"] = "f" * 64
    board = leaderboard([*records, RunRecord.model_validate(content)])
    cells = dict(zip(board.boards[0].columns, row(board, "toy:Mean"), strict=True))
    assert cells["average of 5"] == ""


def test_no_average_where_the_protocol_does_not_rank(base: RunRecord) -> None:
    columns = leaderboard([variant(base, "1")]).boards[0].columns
    assert not any("average" in name for name in columns)


def test_speed_comes_from_one_session_of_the_same_protocol_and_device(base: RunRecord) -> None:
    cells = [
        cell("transformer", 64, own_s=1.0, peak_bytes=100, flops=10),
        cell("fnet", 64, own_s=0.5, reference_s=1.0, peak_bytes=80, flops=2),
        cell("local", 64, status="oom"),
    ]
    measured = session(cells)
    fitting = measured.record.model_copy(
        update={"device": base.device, "protocol_sha256": base.protocol.sha256}
    )
    records = [variant(base, name, model__name=name) for name in ("fnet", "local", "s4d")]
    board = leaderboard(records, sessions=[measured.model_copy(update={"record": fitting}), measured])
    assert board.boards[0].columns[-4:] == ["time", "peak memory", "FLOPs", "Pareto"]
    assert row(board, "fnet")[-4:] == ["0.50 (0.50-0.50)", "0.80", "0.20", base.task.name]
    assert row(board, "local")[-4:] == [*["OOM"] * 3, ""]
    assert row(board, "s4d")[-4:] == [*["-"] * 3, ""]
    assert any(measured.record.session in note for note in board.boards[0].notes)
    assert "time" not in leaderboard(records, sessions=[measured]).boards[0].columns, "another device"


def test_frames_say_as_numbers_what_the_tables_say(base: RunRecord) -> None:
    records = [
        variant(base, "1", model__name="one", accuracy=0.6),
        variant(base, "2", model__name="one", accuracy=0.7, seed=1),
        variant(base, "3", model__name="two", accuracy=None, status="oom"),
    ]
    board = leaderboard(records)
    frame = board.frame().set_index("model")
    one, two = frame.loc["one"], frame.loc["two"]
    assert (one["mean"], one.seeds, one.status, one.runs) == (pytest.approx(0.65), 2, "ok", "1 2")
    assert one.low < 0.65 < one.high
    assert (two.status, two.seeds, two.failed) == ("oom", 0, 1)
    wide = board.wide_frame().set_index("model")
    assert wide.loc["one", "toy:Evens"] == pytest.approx(0.65)
    assert leaderboard([]).frame().empty
    assert leaderboard([]).wide_frame().empty


def test_the_best_score_of_a_column_is_bold_where_scores_are_ranked(base: RunRecord) -> None:
    records = [
        ranked(base, "listops", 0.6, model__name="good"),
        ranked(base, "listops", 0.5, model__name="poor", model__family="x"),
        ranked(base, "listops", 0.9, model__name="trivial", model__control=True, model__family="control"),
    ]
    lines = [line for line in leaderboard(records).latex().splitlines() if line.endswith(r"\\")]
    bold = [line for line in lines if "textbf" in line]
    assert len(bold) == 1
    assert bold[0].startswith("good")
    plain = leaderboard([variant(base, "1"), variant(base, "2", model__name="x")])
    assert "textbf" not in plain.latex()


def test_every_artefact_is_the_same_for_records_in_any_order(base: RunRecord) -> None:
    records = [variant(base, str(number), model__name=f"m{number}") for number in range(5)]
    measured = session([cell("transformer", 64, own_s=1.0)])
    first = artefacts(leaderboard(records), [measured])
    again = artefacts(leaderboard(records[::-1]), [measured])
    assert first == again
    assert set(first) >= {"LEADERBOARD.md", "leaderboard.tex", "leaderboard.csv", "efficiency.csv"}
