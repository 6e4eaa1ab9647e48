"""Learning curves: validation accuracy over training steps, a panel for each task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lra_bench.records import RunRecord
from lra_bench.report.plots.style import look_of, styled
from lra_bench.report.scoring import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
LEGEND_COLUMNS = 6


def curves_figure(records: Sequence[RunRecord], title: str, *, commit: str = "unknown") -> Figure:
    """The mean over seeds as a line, from the least to the greatest seed as a band."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    by_task: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=lambda one: (one.task.name, label_of(one), one.seed)):
        if record.accuracy is not None and record.accuracy.curve and not record.model.control:
            by_task.setdefault(record.task.name, {}).setdefault(label_of(record), []).append(record)
    columns = min(COLUMNS, max(1, len(by_task)))
    rows = max(1, math.ceil(len(by_task) / columns))
    with styled():
        figure = Figure(figsize=(3.2 * columns + 0.4, 2.5 * rows + 1.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(by_task) :]:
            axes.set_visible(False)
        for axes, (task, models) in zip(grid.flat, by_task.items(), strict=False):
            _panel(axes, task, models)
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        for axes in grid[:, 0]:
            axes.set_ylabel("validation accuracy, %")
        labels = dict.fromkeys(label for models in by_task.values() for label in models)
        handles = [Line2D([], [], **_line_of(label), label=label) for label in labels]
        if handles:
            figure.legend(handles=handles, loc="outside lower left", ncols=LEGEND_COLUMNS, fontsize=7)
        seeds = [len(runs) for models in by_task.values() for runs in models.values()] or [0]
        over = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else f"{seeds[0]}"
        figure.suptitle(
            f"{title}; seeds: {over}, band from the least to the greatest; commit {commit[:8]}.",
            fontsize=8,
            color="#444444",
            x=0.01,
            ha="left",
        )
    return figure


def _panel(axes: Axes, task: str, models: dict[str, list[RunRecord]]) -> None:
    axes.set_title(task, loc="left")
    chance = next(iter(models.values()))[0].task.chance
    axes.axhline(100 * chance, color="#999999", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    for label, runs in models.items():
        curves = [
            {p.step: 100 * p.validation_accuracy for p in run.accuracy.curve} for run in runs if run.accuracy
        ]
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        if not steps:
            continue
        values = [[curve[step] for curve in curves] for step in steps]
        look = _line_of(label)
        axes.plot(steps, [sum(one) / len(one) for one in values], **{**look, "markersize": 3}, markevery=0.25)
        if len(runs) > 1:
            low, high = [min(one) for one in values], [max(one) for one in values]
            axes.fill_between(steps, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _line_of(label: str) -> dict[str, Any]:
    return look_of(label.partition(" (")[0]).of_line()
