"""`lra-bench plot`: one figure from records."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  lra-bench plot growth 20260101 --quantity memory
  lra-bench plot growth 20260101 --out growth.png"""


class Figures(StrEnum):
    """What can be plotted."""

    growth = "growth"


class Quantities(StrEnum):
    """What grows."""

    time = "time"
    memory = "memory"


def plot(
    figure: Annotated[Figures, typer.Argument(help="Which figure.")],
    session: Annotated[str, typer.Argument(help="The beginning of a measuring session's id.")],
    quantity: Annotated[Quantities, typer.Option(help="What grows.")] = Quantities.time,
    compiled: Annotated[bool, typer.Option("--compile", help="The compiled models of the session.")] = False,
    out: Annotated[Path | None, typer.Option(help="File, .svg or .png.")] = None,
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("results"),
) -> None:
    """Draw a figure from the records of a measuring session."""
    from lra_bench.bench.records import find_session
    from lra_bench.report.plots.growth import growth_figure
    from lra_bench.report.plots.style import save

    path = out or results / "plots" / f"{figure.value}_{quantity.value}.svg"
    found = find_session(results, session)
    save(growth_figure(found, quantity.value, compiled=compiled), path)
    typer.echo(f"Written to {path}")
