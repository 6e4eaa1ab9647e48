"""How well a measuring session repeats: two of one plan, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lra_bench.bench.analysis import repeats
from lra_bench.bench.records import Session
from lra_bench.errors import UsageError
from lra_bench.report.table import markdown_table

CLOSE = 0.05


def repeatability_markdown(first: Session, second: Session) -> str:
    """Whether bytes and FLOPs are the same, and by how much ratios of times and times themselves moved.

    Raises:
        UsageError: the two have no cell in common.
    """
    found = repeats(first, second)
    if not found:
        raise UsageError(
            f"Sessions {first.record.session} and {second.record.session} have no timed cell in common."
        )
    same = [
        f"{sum(one.bytes_equal for one in found)} of {len(found)} cells have the same peak bytes",
        f"{sum(one.flops_equal for one in found)} of {len(found)} the same FLOPs",
    ]
    rows = [
        ["ratio to transformer", *_spread([one.time_change for one in found])],
        ["step time itself", *_spread([one.absolute_change for one in found])],
    ]
    columns = ["change from the first to the second", "cells within 5 %", "median size", "largest", "at"]
    for row, name in zip(rows, ("time_change", "absolute_change"), strict=True):
        worst = max(found, key=lambda one: abs(getattr(one, name)))
        row.append(f"{worst.model}, {worst.length:,}" + (" compiled" if worst.compiled else ""))
    return ", ".join(same) + ".\n\n" + markdown_table(columns, rows) + "\n"


def _spread(changes: Sequence[float]) -> list[str]:
    sizes = [abs(change) for change in changes]
    close = sum(size <= CLOSE for size in sizes)
    return [f"{close} of {len(sizes)}", f"{statistics.median(sizes):.1%}", f"{max(sizes):.1%}"]
