"""What `lra-bench leaderboard` writes, as file names and contents: the same records, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra_bench.bench.analysis import session_frame
from lra_bench.bench.records import Session
from lra_bench.report.leaderboard import Leaderboard

if TYPE_CHECKING:
    import pandas as pd


def artefacts(board: Leaderboard, sessions: Sequence[Session]) -> dict[str, str]:
    """Contents by file name.

    LEADERBOARD.md and leaderboard.tex are the tables; leaderboard.csv and .json have a row for each model and
    task, leaderboard_wide.csv one for each model, efficiency.csv one for each cell of a measuring session.
    """
    written = {
        "LEADERBOARD.md": board.markdown(),
        "leaderboard.tex": board.latex(),
        "leaderboard.csv": _csv(board.frame()),
        "leaderboard_wide.csv": _csv(board.wide_frame()),
        "leaderboard.json": json.dumps(board.score_rows(), indent=1, ensure_ascii=False) + "\n",
    }
    if sessions:
        import pandas as pd

        written["efficiency.csv"] = _csv(pd.concat([session_frame(session) for session in sessions]))
    return written


def out_of_date(folder: Path, written: Mapping[str, str]) -> list[str]:
    """Names of files that are missing or don't hold what the records say."""
    return [
        name
        for name, content in written.items()
        if not (folder / name).exists() or (folder / name).read_text("utf-8") != content
    ]


def _csv(frame: pd.DataFrame) -> str:
    # Seven digits: more than any of these numbers is worth, and the same on every machine.
    return str(frame.to_csv(index=False, lineterminator="\n", float_format="%.7g"))
