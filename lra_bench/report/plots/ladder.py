"""Ladders: accuracy and cost after each single change from the plain Transformer to a variant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lra_bench.records import RunRecord
from lra_bench.report.ladders import Climb
from lra_bench.report.plots.style import look_of, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS = (("FLOPs", "o", "#000000"), ("peak memory", "s", "#0072b2"), ("parameters", "^", "#d55e00"))
"""What repeats to the digit; times of separate runs don't belong beside it."""


def ladder_figure(climbs: Sequence[Climb], title: str, *, commit: str = "unknown") -> Figure:
    """A line of panels for each ladder: accuracy with its 95 % interval, and cost relative to the first step.

    The dashed line is the task's best control, the dotted one chance.
    """
    from matplotlib.figure import Figure

    heights = [len(climb.steps) for climb in climbs] or [1]
    with styled():
        figure = Figure(figsize=(7.6, 1.3 + 0.36 * sum(heights) + 0.8 * len(climbs)), layout="constrained")
        grid = figure.subplots(max(1, len(climbs)), 2, squeeze=False, height_ratios=heights, sharey="row")
        for (left, right), climb in zip(grid, climbs, strict=False):
            _accuracy(left, climb)
            _cost(right, climb)
        seeds = [len(step.runs) for climb in climbs for step in climb.steps if step.runs] or [0]
        over = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else f"{seeds[0]}"
        figure.suptitle(
            f"{title}; one change a step, from the top; seeds: {over}; commit {commit[:8]}.\n"
            "Dashed: the task's best control. Dotted: chance.",
            fontsize=8,
            color="#444444",
            x=0.01,
            ha="left",
        )
    return figure


def _accuracy(axes: Axes, climb: Climb) -> None:
    axes.set_title(climb.title, loc="left")
    axes.set_yticks(range(len(climb.steps)), [step.label for step in climb.steps])
    axes.set_ylim(len(climb.steps) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, %")
    look = look_of(climb.model)
    for place, step in enumerate(climb.steps):
        one = step.summary
        if one is None:
            continue
        axes.plot([100 * one.low, 100 * one.high], [place, place], color=look.colour, linewidth=1.4)
        axes.plot(100 * one.mean, place, marker=look.marker, color=look.colour, markersize=6)
    runs = [run for step in climb.steps for run in step.runs]
    axes.axvline(100 * runs[0].task.chance, color="#999999", linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
    controls = [level.accuracy for run in runs if run.verdict for level in run.verdict.controls]
    if controls:
        axes.axvline(100 * max(controls), color="#666666", linewidth=0.9, linestyle="--", zorder=0)


def _cost(axes: Axes, climb: Climb) -> None:
    base = next((costs for step in climb.steps if (costs := _costs(step.runs))), {})
    for name, marker, colour in COSTS:
        places, values = [], []
        for place, step in enumerate(climb.steps):
            value = _costs(step.runs).get(name)
            if value is not None and base.get(name):
                places.append(place)
                values.append(value / base[name])
        axes.plot(values, places, marker=marker, color=colour, linewidth=0.9, label=name)
    axes.set_xlim(left=0)
    axes.set_xlabel("relative to the first step")
    axes.legend(loc="best")


def _costs(runs: Sequence[RunRecord]) -> dict[str, float]:
    for run in runs:
        memory = run.comparable_peak_memory
        if run.flops and memory:
            sizes = {"FLOPs": run.flops.step, "peak memory": memory.peak_bytes}
            return {**sizes, "parameters": run.model.parameters.total}
    return {}
