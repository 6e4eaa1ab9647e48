"""How step time or peak memory grows with the length: a panel for each family, the Transformer in all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from lra_bench.bench.records import REFERENCE, BenchRecord, Session
from lra_bench.report.numbers import binary_bytes, duration
from lra_bench.report.plots.style import look_of, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Quantity = Literal["time", "memory"]
COLUMNS = 3
GUIDES = ((1, "n"), (2, "n²"))
LOST = "x"
LEGEND_SHARE = 0.45
"""Room above the lines for the legend, as a share of their height."""


def growth_figure(session: Session, quantity: Quantity, *, compiled: bool = False) -> Figure:
    """Double logarithmic, so that a power of n is a straight line; guides show n and n squared.

    A cross on the upper edge marks the first length at which a model ran out of memory or time.
    """
    from matplotlib.figure import Figure

    families: dict[str, list[str]] = {}
    for label in session.labels:
        cell = next(one for one in session.cells if one.label == label)
        families.setdefault(cell.family, []).append(label)
    rows = math.ceil(len(families) / COLUMNS)
    with styled():
        figure = Figure(figsize=(9.5, 0.6 + 2.5 * rows), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes, (family, labels) in zip(grid.flat, families.items(), strict=False):
            _panel(axes, session, family.replace("_", " "), labels, quantity, compiled)
        for axes in grid.flat[len(families) :]:
            axes.set_visible(False)
        bottom, top = grid[0, 0].get_ylim()
        grid[0, 0].set_ylim(bottom, top * (top / bottom) ** LEGEND_SHARE)
        for axes in grid[:, 0]:
            axes.set_ylabel("step time" if quantity == "time" else "peak memory")
        for axes in grid.flat[max(0, len(families) - COLUMNS) : len(families)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("length in tokens")
        figure.suptitle(_caption(session, quantity, compiled), fontsize=8, color="#444444", x=0.01, ha="left")
    return figure


def value_of(cell: BenchRecord | None, quantity: Quantity) -> float | None:
    """Seconds, or bytes; None where there is none."""
    if cell is None or cell.status != "ok":
        return None
    if quantity == "time":
        return cell.step_time.median_s if cell.step_time else None
    return float(cell.peak_memory.peak_bytes) if cell.peak_memory else None


def _panel(
    axes: Axes, session: Session, title: str, labels: list[str], quantity: Quantity, compiled: bool
) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_title(title, loc="left")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10 if quantity == "time" else 2)  # so that ticks are round numbers
    drawn = labels if REFERENCE in labels else [REFERENCE, *labels]
    for label in drawn:
        cells = {n: session.find(label, n, compiled) for n in session.record.lengths}
        points = [(n, value) for n, cell in cells.items() if (value := value_of(cell, quantity)) is not None]
        if not points:
            continue
        model = next(cell.model for cell in cells.values() if cell is not None)
        guest = label == REFERENCE and REFERENCE not in labels
        look = look_of(model).of_line()
        name = None if guest else label
        axes.plot(*zip(*points, strict=True), **look, alpha=0.35 if guest else 1.0, label=name)
        lost = [n for n, cell in cells.items() if cell is not None and cell.status in ("oom", "timeout")]
        if lost:
            blended = axes.get_xaxis_transform()
            axes.plot(lost[0], 0.97, LOST, color=look["color"], transform=blended, clip_on=False)
    _guides(axes, session, quantity, compiled)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", handlelength=2.6, labelspacing=0.25)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 1024:g}K" if n >= 1024 else f"{n:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    show = duration if quantity == "time" else binary_bytes
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(show(value))))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _short(text: str) -> str:
    """'10.0 ms' -> '10 ms'"""
    number, _, unit = text.partition(" ")
    return f"{float(number):g} {unit}"


def _guides(axes: Axes, session: Session, quantity: Quantity, compiled: bool) -> None:
    """Faint lines of the powers of n through the Transformer's first point."""
    lengths = session.record.lengths
    start = value_of(session.find(REFERENCE, lengths[0], compiled), quantity)
    if start is None or len(lengths) < 2:
        return
    for power, name in GUIDES:
        end = start * (lengths[-1] / lengths[0]) ** power
        axes.plot([lengths[0], lengths[-1]], [start, end], color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.annotate(name, (lengths[-1], end), color="#999999", fontsize=7, ha="right", va="bottom")


def _caption(session: Session, quantity: Quantity, compiled: bool) -> str:
    record = session.record
    what = "Step time" if quantity == "time" else "Peak memory"
    step = "training step" if record.mode == "train" else "forward pass"
    commit = (record.provenance.get("commit") or "unknown")[:8]
    return (
        f"{what} of one {step}: {record.device}, {record.precision}, {'compiled' if compiled else 'eager'}, "
        f"batch {record.batch_size}, session {record.session}, commit {commit}.\n"
        "Grey: the powers of n; pale black: transformer (fused softmax attention)."
    )
