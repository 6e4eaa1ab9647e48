"""Figures of a board: what they show is what its rows say, and the same records draw the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic_session import cell, session
from toy_board import board_of, measured, records_of

from lra_bench.bench.records import newest_of_each_plan
from lra_bench.records import RunRecord
from lra_bench.report.leaderboard import leaderboard
from lra_bench.report.plots.arena import AREA, LARGEST_AREA, arena_figure
from lra_bench.report.plots.figures import board_figures
from lra_bench.report.plots.heat import heat_figure
from lra_bench.report.plots.style import svg_text


def test_bubbles_lie_where_rows_say_and_areas_are_memory(base: RunRecord) -> None:
    figure = arena_figure(board_of(base).boards[0], measured(base))
    bubbles = {
        tuple(round(float(at), 6) for at in collection.get_offsets()[0]): collection.get_sizes()[0]
        for collection in figure.axes[0].collections
    }
    assert bubbles == {
        (1.0, 80.0): AREA,
        (0.5, 70.0): 0.25 * AREA,
        (2.0, 60.0): LARGEST_AREA * AREA,
    }


def test_tiles_run_from_chance_to_the_best(base: RunRecord) -> None:
    board = board_of(base).boards[0]
    chance = board.rows[0].scores[0].chance
    (image,) = heat_figure(board).axes[0].images
    expected = [(mean - chance) / (0.8 - chance) for mean in (0.6, 0.7, 0.8)]
    assert sorted(image.get_array().ravel().tolist()) == pytest.approx(expected, abs=1e-9)


def test_all_figures_are_the_same_bytes_again(base: RunRecord) -> None:
    def drawn() -> dict[str, str]:
        found = board_figures(board_of(base), [measured(base)], records_of(base))
        return {name: svg_text(figure) for name, _, figure in found}

    first = drawn()
    assert {name.split("_", 1)[1] for name in first} >= {"accuracy_time", "accuracy_memory", "heat", "curves"}
    assert first == drawn()


def test_a_board_without_scores_has_no_figures(base: RunRecord) -> None:
    content = base.model_dump(by_alias=True) | {"accuracy": None, "status": "oom"}
    records = [RunRecord.model_validate(content)]
    assert list(board_figures(leaderboard(records), [], records)) == []


def test_sessions_taken_again_are_shown_once() -> None:
    def named(name: str, plan: str) -> Any:
        one = session([cell("transformer", 64, own_s=1.0)])
        return one.model_copy(
            update={"record": one.record.model_copy(update={"session": name, "plan_sha256": plan})}
        )

    found = newest_of_each_plan([named("1", "a"), named("2", "b"), named("3", "a")])
    assert [one.record.session for one in found] == ["3", "2"]
