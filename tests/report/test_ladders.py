"""Ladders of a board: which runs stand on which rung, and what the table and the figure say of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from harness import toy_protocol
from rich.console import Console

from lra_bench import registry
from lra_bench.records import PeakMemoryPart, RunRecord
from lra_bench.regression.records import compare_records
from lra_bench.report.ladders import ENOUGH, climbs, ladder_row, ladder_table, stands_on
from lra_bench.report.leaderboard import leaderboard
from lra_bench.report.plots.ladder import ladder_figure
from lra_bench.report.plots.style import svg_text
from lra_bench.report.scoring import NOT_RUN
from lra_bench.report.terminal import print_record

GROUPBERT = registry.models.get("groupbert").ladder
LADDERS = [entry for entry in registry.models if entry.ladder]


def run_of(base: RunRecord, model: str, options: dict[str, Any], accuracy: float, seed: int = 0) -> RunRecord:
    content = base.model_dump(by_alias=True)
    content["run_id"] = f"{model}{sorted(options.items())}{seed}"
    content["seed"] = seed
    content["model"] |= {"name": model, "options": options, "changed_options": options}
    content["flops"] = {"forward": 10, "step": 30, "uncovered": [], "batch_size": 2, "length": 8}
    sizes = dict.fromkeys(PeakMemoryPart.model_fields, 0)
    content["peak_memory"] = sizes | {"method": "allocator", "breakdown": {}, "peak_bytes": 100}
    content["accuracy"]["best"] |= {"accuracy": accuracy, "n": 1000, "correct": round(1000 * accuracy)}
    return RunRecord.model_validate(content)


def climbed(base: RunRecord, count: int) -> list[RunRecord]:
    """The first rungs of GroupBERT's ladder, one tenth better each."""
    return [
        run_of(base, rung.model, dict(rung.options), 0.5 + place / 10)
        for place, rung in enumerate(GROUPBERT[:count])
    ]


def test_a_ladder_needs_three_steps(base: RunRecord) -> None:
    assert climbs(climbed(base, ENOUGH - 1)) == []
    (found,) = climbs(climbed(base, ENOUGH))
    assert found.title == f"groupbert on {base.task.name}"
    assert [len(step.runs) for step in found.steps] == [1, 1, 1, 0]


def test_each_step_shows_the_mean_over_its_seeds(base: RunRecord) -> None:
    records = [*climbed(base, 4), run_of(base, "groupbert", {}, 0.6, seed=1)]
    rows = ladder_table(climbs(records)[0]).rows
    assert [row["accuracy"] for row in rows] == [
        "50.0 %",
        "60.0 %",
        "70.0 %",
        "70.0 %",
    ]  # 80 and 60
    assert [row["n"] for row in rows] == ["1", "1", "1", "2"]


def test_a_missing_step_has_a_line_without_numbers(base: RunRecord) -> None:
    rows = ladder_table(climbs(climbed(base, 3))[0]).rows
    assert rows[3]["accuracy"] == "-"
    assert rows[3]["n"] == "0"
    assert list(rows[3]) == list(rows[0])


def test_a_run_with_another_change_stands_on_no_rung(base: RunRecord) -> None:
    changed = run_of(base, "groupbert", {"double_ffn": False, "conv_kernel_size": 3}, 0.9)
    assert not any(stands_on(changed, rung) for rung in GROUPBERT)


@pytest.mark.parametrize("entry", LADDERS, ids=lambda entry: entry.name)
def test_rungs_of_a_ladder_are_told_apart(base: RunRecord, entry: registry.Entry) -> None:
    for rung in entry.ladder:
        run = run_of(base, rung.model, dict(rung.options), 0.5)
        assert [other.label for other in entry.ladder if stands_on(run, other)] == [rung.label]


def test_the_board_holds_the_ladder(base: RunRecord) -> None:
    (board,) = leaderboard(climbed(base, 4)).boards
    assert [table.title for table in board.further if table.title.startswith("Ladder")] == [
        f"Ladder of groupbert on {base.task.name}"
    ]


def test_the_figure_shows_accuracy_and_cost_of_each_step(base: RunRecord) -> None:
    found = climbs(climbed(base, 4))
    figure = ladder_figure(found, "board", commit="abc")
    accuracy, cost = figure.axes
    points = [line.get_xdata()[0] for line in accuracy.lines if line.get_marker() not in ("None", None, "")]
    assert points == pytest.approx([50, 60, 70, 80])
    assert [label.get_text() for label in accuracy.get_yticklabels()] == [rung.label for rung in GROUPBERT]
    for line in cost.lines:  # all runs were made from one
        assert list(line.get_xdata()) == pytest.approx([1, 1, 1, 1])
    assert svg_text(figure) == svg_text(ladder_figure(found, "board", commit="abc"))


def test_memory_and_time_of_several_processes_stand_in_no_table(base: RunRecord) -> None:
    """A record says them with their number; beside those of one process they would be compared."""
    one = climbed(base, 1)[0]
    two = one.model_copy(update={"environment": {**one.environment, "processes": 2}})
    shown = {record.processes: ladder_row("step", [record])["peak memory"] for record in (one, two)}
    assert shown == {1: "100 B", 2: NOT_RUN}
    console = Console(record=True, width=200, file=io.StringIO())
    print_record(console, two, toy_protocol(), Path("there"))
    assert "of the largest of 2 processes in a training step" in console.export_text()
    compared = {record.processes: compare_records([one], [record]) for record in (one, two)}
    metrics = {count: {finding.metric for finding in found} for count, found in compared.items()}
    assert metrics[1] - metrics[2] == {"peak bytes, step"}
