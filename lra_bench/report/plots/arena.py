"""Accuracy against cost: a panel for each task, a bubble for each model, and the front that nothing beats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lra_bench.bench.records import REFERENCE, Session
from lra_bench.report.board import Board
from lra_bench.report.pareto import Cost, Trade, pareto_front, trades
from lra_bench.report.plots.style import look_of, styled
from lra_bench.report.speed import speed_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
AREA = 60.0
"""Square points of a bubble that needs as much of the other quantity as the reference."""
AREAS_SHOWN = (0.25, 1.0, 4.0)
SMALLEST_AREA, LARGEST_AREA = 0.2, 8.0
"""In units of AREA: smaller ones could not be seen, and the explicit matrix at 16K would cover its panel."""
ROOM = 1.7
"""Factor left free beside the outermost bubbles."""
LEGEND_COLUMNS = 6


def arena_figure(board: Board, session: Session, cost: Cost = "time", *, commit: str = "unknown") -> Figure:
    """Accuracy over step time, with peak memory as area; or over memory, with time as area.

    Cheaper is left, so that the upper left is where one wants to be. The line joins models that no other is
    both cheaper and better than. Models without a score or a measurement are left out; the caption says how
    many.
    """
    from matplotlib.figure import Figure

    panels = trades_of(board, session)
    rows = max(1, math.ceil(len(panels) / COLUMNS))
    columns = min(COLUMNS, max(1, len(panels)))
    with styled():
        figure = Figure(figsize=(3.2 * columns + 0.4, 2.9 * rows + 1.6), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        levels = _levels(board)
        for axes, (task, bubbles) in zip(grid.flat, panels.items(), strict=False):
            _panel(axes, task, bubbles, cost, levels[task])
        for axes in grid[-1]:
            axes.set_xlabel(f"{'step time' if cost == 'time' else 'peak memory'} (transformer = 1)")
        for axes in grid[:, 0]:
            axes.set_ylabel("test accuracy, %")
        _legends(figure, [bubble.label for bubbles in panels.values() for bubble in bubbles], cost)
        figure.suptitle(
            _caption(board, session, panels, commit), fontsize=8, color="#444444", x=0.01, ha="left"
        )
    return figure


def trades_of(board: Board, session: Session) -> dict[str, list[Trade]]:
    """`pareto.trades` of a board's models, controls left out."""
    scored = [(row.label, row.scores) for row in board.rows if not row.control]
    return trades(scored, session, compiled=board.group.compiled)


def _levels(board: Board) -> dict[str, dict[str, float]]:
    """By task column: chance, and the best control's score."""
    levels: dict[str, dict[str, float]] = {}
    for row in board.rows:
        for score in row.scores:
            known = levels.setdefault(score.column, {})
            if score.chance is not None:
                known["chance"] = score.chance
            if row.control and score.summary is not None:
                known["best control"] = max(score.summary.mean, known.get("best control", 0.0))
    return levels


def _panel(axes: Axes, task: str, bubbles: list[Trade], cost: Cost, levels: dict[str, float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_title(task, loc="left")
    axes.set_xscale("log")
    front = pareto_front(bubbles, cost)
    axes.step(
        [one.cost(cost) for one in front],
        [100 * one.accuracy for one in front],
        where="post",
        color="#bbbbbb",
        linewidth=1.0,
        zorder=1,
    )
    for (name, level), dashes in zip(levels.items(), ((0, (1, 2)), (0, (4, 2))), strict=False):
        axes.axhline(100 * level, color="#999999", linewidth=0.8, linestyle=dashes, zorder=0)
        axes.annotate(
            name,
            (1.0, 100 * level),
            xycoords=("axes fraction", "data"),
            fontsize=6,
            color="#777777",
            ha="right",
            va="bottom" if name != "chance" else "top",
        )
    # The largest first, so that no bubble hides a smaller one.
    for one in sorted(bubbles, key=lambda bubble: (-bubble.other(cost), bubble.label)):
        look = look_of(_model(one.label))
        x = one.cost(cost)
        axes.plot(
            [x, x], [100 * one.low, 100 * one.high], color=look.colour, linewidth=0.8, alpha=0.5, zorder=2
        )
        capped = one.other(cost) > LARGEST_AREA
        axes.scatter(
            x,
            100 * one.accuracy,
            s=AREA * min(max(one.other(cost), SMALLEST_AREA), LARGEST_AREA),
            facecolor="none" if capped else look.colour,
            marker=look.marker,
            alpha=0.75,
            edgecolor=look.colour if capped else "white",
            linewidth=1.2 if capped else 0.5,
            zorder=3,
        )
    costs = [one.cost(cost) for one in bubbles]
    axes.set_xlim(min(costs) / ROOM, max(costs) * ROOM)
    ticks = [
        tick
        for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
        if min(costs) / 2 < tick < max(costs) * 2
    ]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legends(figure: Figure, labels: list[str], cost: Cost) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for label in dict.fromkeys(labels):
        look = look_of(_model(label))
        handles.append(
            Line2D([], [], color=look.colour, marker=look.marker, linestyle="", markersize=5, label=label)
        )
    noun = "memory" if cost == "time" else "time"
    for share in AREAS_SHOWN:
        size = math.sqrt(AREA * share)
        name = f"{share:g} x {noun}"
        handles.append(Line2D([], [], color="#cccccc", marker="o", linestyle="", markersize=size, label=name))
    figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS, fontsize=7)


def _caption(board: Board, session: Session, panels: dict[str, list[Trade]], commit: str) -> str:
    seeds = sorted({bubble.seeds for bubbles in panels.values() for bubble in bubbles}) or [0]
    seeds_text = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    shown = {bubble.label for bubbles in panels.values() for bubble in bubbles}
    lost = sum(not row.control and row.label not in shown for row in board.rows)
    record = session.record
    left_out = f"; {lost} without a measurement left out" if lost else ""
    ends = f"areas end at {SMALLEST_AREA:g} and {LARGEST_AREA:g} (hollow)"
    return (
        f"{board.title}; seeds: {seeds_text}; lines: 95 % intervals; commit {commit[:8]}.\n"
        f"Time and memory: {record.batch_size} x {speed_length(session, board.group.compiled):,} tokens "
        f"beside {REFERENCE}, session {record.session}{left_out}; {ends}."
    )


def _model(label: str) -> str:
    return label.partition(" (")[0]
