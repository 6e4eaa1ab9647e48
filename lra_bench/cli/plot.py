"""`lra-bench plot`: one figure from records."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lra_bench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lra_bench.report.board import Board

EXAMPLES = """\b
Examples:
  lra-bench plot growth 20260101 --quantity memory
  lra-bench plot accuracy --board quick
  lra-bench plot heat --out heat.png"""


class Figures(StrEnum):
    """What can be plotted."""

    growth = "growth"
    accuracy = "accuracy"
    heat = "heat"
    curves = "curves"
    ladders = "ladders"


class Quantities(StrEnum):
    """What grows, or what accuracy costs."""

    time = "time"
    memory = "memory"


def plot(
    figure: Annotated[
        Figures,
        typer.Argument(
            help="growth of a session; of a board: accuracy against cost, heat map, learning curves, ladders."
        ),
    ],
    session: Annotated[str, typer.Argument(help="For growth: the beginning of a session's id.")] = "",
    quantity: Annotated[
        Quantities, typer.Option(help="What grows, or what accuracy costs.")
    ] = Quantities.time,
    board: Annotated[str, typer.Option(help="Part of a board's title, where there are several.")] = "",
    compiled: Annotated[bool, typer.Option("--compile", help="The compiled models of the session.")] = False,
    out: Annotated[Path | None, typer.Option(help="File, .svg or .png.")] = None,
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("results"),
) -> None:
    """Draw a figure from records."""
    from lra_bench.bench.records import find_session
    from lra_bench.report.plots.growth import growth_figure
    from lra_bench.report.plots.style import save

    if figure is Figures.growth:
        if not session:
            raise UsageError("plot growth needs the beginning of a session's id; `lra-bench list sessions`.")
        drawn = growth_figure(find_session(results, session), quantity.value, compiled=compiled)
    else:
        drawn = _of_board(figure, quantity, board, results)
    name = f"{figure}_{quantity}" if figure in (Figures.growth, Figures.accuracy) else f"{figure}"
    path = out or results / "plots" / f"{name}.svg"
    save(drawn, path)
    typer.echo(f"Written to {path}")


def _of_board(figure: Figures, quantity: Quantities, part: str, results: Path) -> Figure:
    from lra_bench.bench.records import load_sessions
    from lra_bench.record_store import load_records
    from lra_bench.report.ladders import ENOUGH, climbs
    from lra_bench.report.leaderboard import leaderboard
    from lra_bench.report.plots.arena import arena_figure
    from lra_bench.report.plots.curves import curves_figure
    from lra_bench.report.plots.figures import commits_of, runs_of
    from lra_bench.report.plots.heat import heat_figure
    from lra_bench.report.plots.ladder import ladder_figure

    records = load_records(results)
    chosen = _choose(leaderboard(records, sessions=load_sessions(results)).boards, part, results)
    members = runs_of(chosen, records)
    commit = commits_of(members)
    if figure is Figures.heat:
        return heat_figure(chosen, commit=commit)
    if figure is Figures.curves:
        return curves_figure(members, chosen.title, commit=commit)
    if figure is Figures.ladders:
        found = climbs(members)
        if not found:
            raise UsageError(
                f"{chosen.title}: no ladder with {ENOUGH} steps or more. `lra-bench run --ablate` makes one."
            )
        return ladder_figure(found, chosen.title, commit=commit)
    if chosen.speed is None:
        raise UsageError(
            f"{chosen.title}: no measuring session under this protocol and device. "
            "`lra-bench bench` makes one."
        )
    return arena_figure(chosen, chosen.speed, quantity.value, commit=commit)


def _choose(boards: list[Board], part: str, results: Path) -> Board:
    """The only board whose title holds `part`."""
    found = [one for one in boards if part in one.title]
    if len(found) == 1:
        return found[0]
    if not boards:
        raise UsageError(
            f"{results} has no records. Run a cell first, or name another folder with --results."
        )
    titles = "; ".join(one.title for one in boards)
    raise UsageError(f"--board {part!r} fits {len(found)} boards. There are: {titles}.")
