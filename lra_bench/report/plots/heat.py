"""Accuracy of every model on every task, between chance and the best of the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lra_bench.report.board import Board
from lra_bench.report.plots.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK = 0.6
"""Share above which a tile is dark, so that its number is white."""
WEAK_HATCH = "////"


def heat_figure(board: Board, *, commit: str = "unknown") -> Figure:
    """A tile per model and task: 0 is chance, 1 the best score of the task. Hatched: not above chance, or not
    above the task's best control. Empty: no score, with the reason."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    tasks = [score.column for score in board.rows[0].scores] if board.rows else []
    shares = np.full((len(board.rows), len(tasks)), np.nan)
    for place in range(len(tasks)):
        found = [row.scores[place] for row in board.rows]
        means = [score.summary.mean for score in found if score.summary is not None]
        chance = next((score.chance for score in found if score.chance is not None), 0.0)
        room = max(means, default=chance) - chance
        for number, score in enumerate(found):
            if score.summary is not None:
                shares[number, place] = (score.summary.mean - chance) / room if room > 0 else 0.0
    with styled():
        figure = Figure(figsize=(2.6 + 0.95 * len(tasks), 1.3 + 0.27 * len(board.rows)), layout="constrained")
        axes = figure.subplots()
        axes.grid(False)
        axes.set_facecolor("white")
        image = axes.imshow(np.clip(shares, 0, 1), cmap="cividis_r", vmin=0, vmax=1, aspect="auto")
        for number, row in enumerate(board.rows):
            for place, score in enumerate(row.scores):
                weak = score.verdict in ("chance", "not_above_controls")
                if weak:
                    corner = (place - 0.5, number - 0.5)
                    axes.add_patch(
                        Rectangle(
                            corner, 1, 1, fill=False, hatch=WEAK_HATCH, edgecolor="#ffffff", linewidth=0
                        )
                    )
                dark = shares[number, place] > DARK
                shown = f"{100 * score.summary.mean:.1f}" if score.summary is not None else score.text
                axes.text(
                    place,
                    number,
                    shown,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if dark else "black",
                    bbox={
                        "boxstyle": "round,pad=0.15",
                        "facecolor": image.cmap(image.norm(shares[number, place])),
                        "edgecolor": "none",
                    }
                    if weak
                    else None,
                )
        axes.set_xticks(range(len(tasks)), tasks)
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(board.rows)), [_name(row.label, row.control) for row in board.rows])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=25)
        bar.set_ticks([0, 1], labels=["chance", "best"])
        seeds = sorted({s.summary.seeds for row in board.rows for s in row.scores if s.summary is not None})
        over = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0] if seeds else 0}"
        figure.suptitle(
            f"Test accuracy, %: {board.title}; seeds: {over}; commit {commit[:8]}.\n"
            "Hatched: not above chance or the task's best control. Controls in brackets.",
            fontsize=8,
            color="#444444",
            x=0.01,
            ha="left",
        )
    return figure


def _name(label: str, control: bool) -> str:
    return f"[{label}]" if control else label
