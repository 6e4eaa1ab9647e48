"""A board's short table within somebody's Markdown file, between two comments that stay."""

from __future__ import annotations

import re

from lra_bench.errors import UsageError, suggest
from lra_bench.report.board import Leaderboard

_BLOCK = re.compile(
    r"^<!-- leaderboard: (?P<title>.+?) -->\n(?P<body>.*?)^<!-- end of leaderboard -->$",
    re.MULTILINE | re.DOTALL,
)
EXAMPLE = "<!-- leaderboard: quick on cpu-x, fp32 -->, a line <!-- end of leaderboard -->"


def with_tables(text: str, board: Leaderboard, name: str) -> str:
    """`text` with the table of the board that each opening comment names, in place of what stood there.

    Args:
        name: of the file, for messages.

    Raises:
        UsageError: the file has no such pair of comments, or one names no board.
    """
    titles = {one.title: one for one in board.boards}

    def block(found: re.Match[str]) -> str:
        title = found["title"]
        if title not in titles:
            raise UsageError(f"{name}: there is no board {title!r}. {suggest(title, titles)}")
        opening = found[0].partition("\n")[0]
        return f"{opening}\n\n{titles[title].short_markdown()}\n\n<!-- end of leaderboard -->"

    written, count = _BLOCK.subn(block, text)
    if not count:
        raise UsageError(f"{name} has no place for a table. Expected: {EXAMPLE} after it.")
    return written
