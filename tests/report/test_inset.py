"""A table in somebody's own file: between the comments, and nothing else of the file."""

from __future__ import annotations

import pytest
from altered import altered
from toy_board import board_of

from lra_bench.errors import UsageError
from lra_bench.records import RunRecord
from lra_bench.report.inset import with_tables
from lra_bench.report.leaderboard import leaderboard

AROUND = "# Mine\n\n<!-- leaderboard: {} -->\n{}<!-- end of leaderboard -->\n\n*after*\n"


def test_the_table_stands_between_the_comments_and_is_replaced(base: RunRecord) -> None:
    board = board_of(base)
    title = board.boards[0].title
    written = with_tables(AROUND.format(title, ""), board, "README.md")
    before, _, after = written.partition(board.boards[0].short_markdown())
    assert before == f"# Mine\n\n<!-- leaderboard: {title} -->\n\n"
    assert after == "\n\n<!-- end of leaderboard -->\n\n*after*\n"
    assert with_tables(written, board, "README.md") == written
    assert with_tables(AROUND.format(title, "| old |\n"), board, "README.md") == written


def test_the_short_table_has_scores_and_ratios_without_intervals(base: RunRecord) -> None:
    lines = board_of(base).boards[0].short_markdown().splitlines()
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert "family" not in columns
    assert {"model", "parameters", "toy:Evens", "time", "peak memory", "FLOPs"} <= {*columns}
    scores = [line.strip("|").split("|")[columns.index("toy:Evens")].split()[0] for line in lines[2:]]
    assert scores == ["80.0", "70.0", "60.0"]
    assert "n=" not in "".join(lines)


def test_each_place_has_the_board_it_names(base: RunRecord) -> None:
    boards = leaderboard([altered(base, "a"), altered(base, "b", device="other", model__name="another")])
    titles = [board.title for board in boards.boards]
    text = "".join(AROUND.format(title, "") for title in titles)
    halves = with_tables(text, boards, "x.md").split("*after*\n")
    assert [("another" in half, "toy:Mean" in half) for half in halves[:2]] == [
        ("other" in title, "other" not in title) for title in titles
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Mine\n", "README.md has no place for a table"),
        (AROUND.format("quick on a machine of nobody", ""), "no board 'quick on a machine of nobody'"),
    ],
)
def test_what_is_missing_is_said(base: RunRecord, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        with_tables(text, board_of(base), "README.md")
