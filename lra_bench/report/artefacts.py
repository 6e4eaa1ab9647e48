"""What `lra-bench leaderboard` writes, as file names and contents: the same records, the same bytes."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra_bench.bench.analysis import session_frame
from lra_bench.bench.records import Session, newest_of_each_plan
from lra_bench.records import RunRecord
from lra_bench.report.board import Leaderboard
from lra_bench.report.page.content import page_content
from lra_bench.report.page.render import Figure as PageFigure
from lra_bench.report.page.render import page
from lra_bench.report.plots.figures import board_figures
from lra_bench.report.plots.style import svg_text

if TYPE_CHECKING:
    import pandas as pd

PAGE = "index.html"
_IMAGES = re.compile('data:image/svg[+]xml,[^"]+')


def artefacts(
    board: Leaderboard,
    sessions: Sequence[Session],
    records: Sequence[RunRecord] = (),
    *,
    files: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Contents by file name.

    LEADERBOARD.md and leaderboard.tex are the tables; leaderboard.csv and .json have a row for each model and
    task, leaderboard_wide.csv one for each model, efficiency.csv one for each cell of a measuring session;
    index.html is the page, with every record and the figures of plots/.

    files: by run id, where a record's file lies relative to the page.
    """
    newest = newest_of_each_plan(sessions)
    figures = {name: (title, svg_text(one)) for name, title, one in board_figures(board, newest, records)}
    # The page draws growth for the sessions that its boards stand on, or the newest where none does; the
    # others have files.
    names = [one.record.session for one in newest]
    used = {one.speed.record.session for one in board.boards if one.speed is not None} or {
        max(names, default="")
    }
    elsewhere = tuple(name for name in names if name not in used)
    shown = [
        PageFigure(title, svg) for name, (title, svg) in figures.items() if not name.startswith(elsewhere)
    ]
    written = {
        "LEADERBOARD.md": board.markdown(),
        "leaderboard.tex": board.latex(),
        "leaderboard.csv": _csv(board.frame()),
        "leaderboard_wide.csv": _csv(board.wide_frame()),
        "leaderboard.json": json.dumps(board.score_rows(), indent=1, ensure_ascii=False) + "\n",
        PAGE: page(page_content(board, records, newest, files=files), shown),
        **{f"plots/{name}.svg": svg for name, (_, svg) in figures.items()},
    }
    if sessions:
        import pandas as pd

        written["efficiency.csv"] = _csv(pd.concat([session_frame(session) for session in sessions]))
    return written


def relative_files(paths: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Where records lie, as a page in `folder` refers to them; those elsewhere are left out.

    A path from outside would say how somebody's machine is laid out, and lead nowhere on another one.
    """
    home = folder.resolve()
    found = {run: path.resolve() for run, path in paths.items()}
    return {
        run: urllib.parse.quote(path.relative_to(home).as_posix())
        for run, path in found.items()
        if path.is_relative_to(home)
    }


def out_of_date(folder: Path, written: Mapping[str, str]) -> list[str]:
    """Names of files that are missing or don't hold what the records say.

    Figures have only to be there, as their text follows the version of the library that draws them. What they
    show is in leaderboard.csv and efficiency.csv.
    """
    return [
        name
        for name, content in written.items()
        if not (folder / name).exists()
        or (
            not name.startswith("plots/")
            and _without_images((folder / name).read_text("utf-8")) != _without_images(content)
        )
    ]


def _without_images(text: str) -> str:
    return _IMAGES.sub("", text)


def _csv(frame: pd.DataFrame) -> str:
    # Seven digits: more than any of these numbers is worth, and the same on every machine.
    return str(frame.to_csv(index=False, lineterminator="\n", float_format="%.7g"))
