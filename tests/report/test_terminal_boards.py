"""A leaderboard on terminals of different widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from toy_board import board_of

from lra_bench.records import RunRecord
from lra_bench.report.terminal import print_boards


def shown(record: RunRecord, width: int) -> str:
    held = io.StringIO()
    print_boards(Console(file=held, width=width), board_of(record))
    return held.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_a_narrow_terminal_shows_means_one_line_a_model(base: RunRecord, width: int) -> None:
    text = shown(base, width)
    for name, mean in {"transformer": "80.0", "fnet": "70.0", "local": "60.0"}.items():
        (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
        assert mean in line
        assert "n=1" not in line
    assert "Means alone" in text


def test_a_wide_terminal_shows_intervals(base: RunRecord) -> None:
    text = shown(base, 220)
    assert text.count("n=1") == 3
    assert "Means alone" not in text
