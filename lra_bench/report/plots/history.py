"""Metrics over commits: a panel for each metric of a cell, a line for each model, change points marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lra_bench.errors import UsageError
from lra_bench.regression.history import Change, History, Series
from lra_bench.report.bench_text import plain
from lra_bench.report.numbers import metric_text
from lra_bench.report.plots.style import look_of, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2
MOST_PANELS = 16
MOST_TICKS = 14
MOST_LINES = 8
"""Models that are told apart where none has changed."""
STORIES = 3
"""Heights at which the labels of change points stand, so that neighbours do not touch."""
ROOM = 0.9
"""Above the lines, for these labels and the legend, as a share of their height."""
COLOURS = {"worse": "#d55e00", "better": "#009e73", "changed": "#5a5a5a"}
QUIET: dict[str, Any] = {"color": "#bbbbbb", "linewidth": 0.8, "marker": ".", "markersize": 3, "zorder": 1}

PanelKey = tuple[str, str, str]


def history_figure(history: History) -> Figure:
    """Every series relative to its first level; a band covers the commits in which a level changed.

    Panels without a change are left out where others have one, and those of one commit where others have
    more. Lines are levels (medians), marks are what was measured; an open mark at the end is off its level
    alone, which is no change point yet.

    Raises:
        UsageError: nothing has numbers.
    """
    from matplotlib.figure import Figure

    panels: dict[PanelKey, list[Series]] = {}
    for one in history.series:
        if one.metric.unit:
            key = one.key
            panels.setdefault((f"{key.task}: {key.metric}", key.where, key.group), []).append(one)
    if not panels:
        raise UsageError("--plot: digests and statuses can't be drawn; choose other metrics with --metric.")
    lasting = {key: lines for key, lines in panels.items() if any(len(one.points) > 1 for one in lines)}
    changed = {key: lines for key, lines in panels.items() if any(one.changes for one in lines)}
    drawn = dict(list((changed or lasting or panels).items())[:MOST_PANELS])
    columns = min(COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    places = sorted({point.place for lines in drawn.values() for one in lines for point in one.points})
    where = {place: position for position, place in enumerate(places)}
    with styled():
        figure = Figure(figsize=(9.5, 1.1 + (3.6 if columns == 1 else 2.9) * rows), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes in grid.flat[len(drawn) :]:
            axes.set_visible(False)
        for axes, ((title, setting, _), lines) in zip(grid.flat, drawn.items(), strict=False):
            axes.set_title(plain(title), loc="left")
            axes.set_title(plain(setting), loc="right", fontsize=6.5, color="#777777")
            _panel(axes, history, lines, where)
        step = math.ceil(len(places) / MOST_TICKS)
        for axes in grid.flat[: len(drawn)]:
            axes.set_xticks(range(0, len(places), step))
            labels = [plain(history.commits[place].label) for place in places[::step]]
            axes.set_xticklabels(labels, rotation=40, ha="right", fontsize=7, family="monospace")
            axes.tick_params(labelbottom=True)
        figure.suptitle(
            _caption(history, len(panels), len(drawn)), fontsize=8, color="#444444", x=0.01, ha="left"
        )
    return figure


def _panel(axes: Axes, history: History, lines: Sequence[Series], where: dict[int, int]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    told = [one for one in lines if one.changes] or list(lines[:MOST_LINES])
    quiet = [one for one in lines if one not in told]
    kind = "without a change" if told[0].changes else "others"
    for number, one in enumerate(quiet):
        name = f"{len(quiet)} {kind}" if number == 0 else None
        axes.plot(*_points(one, where), **QUIET, label=name)
    for one in told:
        _line(axes, one, where)
    unit = "points" if lines[0].metric.absolute else "%"
    axes.set_ylabel(f"change since the first, {unit}")
    # A quantity that stays the same to the last byte needs no axis of millionths.
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max((high - low) / 2, 0.5)
    axes.set_ylim(middle - half, middle + half * (1 + 2 * ROOM))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    _marks(axes, history, told, where)
    # With a ground, so that bands do not run through it.
    ground: dict[str, Any] = {"frameon": True, "framealpha": 0.9, "edgecolor": "none"}
    axes.legend(loc="upper left", ncols=2, fontsize=7, handlelength=2.2, labelspacing=0.25, **ground)


def _line(axes: Axes, series: Series, where: dict[int, int]) -> None:
    look = look_of(series.key.model.partition(" (")[0]).of_line()
    x, y = _points(series, where)
    firm = [change.index for change in series.changes if change.confirmed]
    first, last = (metric_text(series.key.metric, series.level_at(index)) for index in (0, len(x) - 1))
    label = f"{plain(series.key.model)}  {first}" + (f" → {last}" if firm else "")
    points = {**look, "linestyle": "", "markersize": 3.5}
    pending = len(series.changes) - len(firm)
    axes.plot(x[: len(x) - pending], y[: len(y) - pending], **points, alpha=0.6)
    if pending:
        axes.plot(x[-1:], y[-1:], **{**points, "markerfacecolor": "none"})
    edges = [0, *firm, len(x)]
    heights = [_relative(series, series.level_at(start)) for start in edges[:-1]]
    across, height = [], []
    for start, stop, level in zip(edges, edges[1:], heights, strict=False):
        across += [x[start], x[stop - 1]]
        height += [level, level]
    axes.plot(across, height, color=look["color"], linestyle=look["linestyle"], linewidth=1.8, label=label)


def _marks(axes: Axes, history: History, told: Sequence[Series], where: dict[int, int]) -> None:
    """A band from the last commit of the old level to the first of the new one, with the range above it."""
    found: dict[tuple[int, int, str, bool], list[tuple[Series, Change]]] = {}
    for one in told:
        for change in one.changes:
            good, bad = (where[one.points[index].place] for index in (change.index - 1, change.index))
            found.setdefault((good, bad, change.direction, change.confirmed), []).append((one, change))
    for number, ((good, bad, direction, confirmed), changes) in enumerate(sorted(found.items(), key=_left)):
        colour = COLOURS[direction]
        axes.axvspan(good, bad, color=colour, alpha=0.18 if confirmed else 0.07, linewidth=0, zorder=0)
        series, change = changes[0]
        size = f"{_relative_change(series, change):+.1f}{' points' if series.metric.absolute else ' %'}"
        size = size if len(changes) == 1 else f"{len(changes)} models"
        doubt = "" if confirmed else "possible: "
        end = bad > 0.7 * max(where.values())
        axes.annotate(
            f"{history.range_of(series, change)}\n{doubt}{size}, {direction}",
            ((good + bad) / 2, 0.80 - 0.11 * (number % STORIES)),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if end else 3, 0),
            textcoords="offset points",
            color=colour,
            fontsize=7,
            ha="right" if end else "left",
            va="top",
        )


def _left(item: tuple[tuple[int, int, str, bool], Any]) -> tuple[int, int, str, bool]:
    return item[0]


def _points(series: Series, where: dict[int, int]) -> tuple[list[int], list[float]]:
    return (
        [where[point.place] for point in series.points],
        [_relative(series, point.value) for point in series.points],
    )


def _relative(series: Series, value: float | str) -> float:
    """Percent, or points, from the first level."""
    return _apart(series, series.level_at(0), value)


def _relative_change(series: Series, change: Change) -> float:
    return _apart(series, change.before, change.after)


def _apart(series: Series, before: float | str, after: float | str) -> float:
    assert not isinstance(before, str)
    assert not isinstance(after, str)
    if series.metric.absolute or not before:
        return 100 * (after - before)
    return 100 * (after / before - 1)


def _caption(history: History, panels: int, drawn: int) -> str:
    first, last = history.commits[0].label, history.commits[-1].label
    left = f"; {panels - drawn} of {panels} panels not drawn" if drawn < panels else ""
    return (
        f"{len(history.commits)} commits from {plain(first)} to {plain(last)}; "
        f"bands: the commits in which a level changed{left}.\n"
        "Lines: levels (medians); marks: what was measured; open mark: one point off its level."
    )
