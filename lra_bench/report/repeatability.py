"""How well a measuring session repeats: two of one plan, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lra_bench.bench.analysis import ended_otherwise, repeats
from lra_bench.bench.records import Session
from lra_bench.errors import UsageError
from lra_bench.report.bench_text import markdown_text
from lra_bench.report.table import markdown_table

CLOSE = 0.05
ALIKE = ("device", "protocol_sha256", "overrides", "precision", "mode", "batch_size", "padded")
"""What two sessions must share for their ratios to be of the same thing."""


def repeatability_markdown(first: Session, second: Session) -> str:
    """Whether bytes and FLOPs are the same, and by how much ratios of times and times themselves moved.

    Raises:
        UsageError: the two have no cell in common, or were measured under different settings.
    """
    unlike = [name for name in ALIKE if getattr(first.record, name) != getattr(second.record, name)]
    if unlike:
        raise UsageError(
            f"Sessions {first.record.session} and {second.record.session} differ in {', '.join(unlike)}. "
            "Compare two sessions of one command."
        )
    found = repeats(first, second)
    if not found:
        raise UsageError(
            f"Sessions {first.record.session} and {second.record.session} have no timed cell in common."
        )
    same = [
        f"{_count([one.bytes_equal for one in found])} cells have the same peak bytes",
        f"{_count([one.flops_equal for one in found])} the same FLOPs",
    ]
    otherwise = "; ".join(ended_otherwise(first, second))
    ended = f" Ended otherwise: {markdown_text(otherwise)}." if otherwise else ""
    rows = [
        ["ratio to transformer", *_spread([one.time_change for one in found])],
        ["step time itself", *_spread([one.absolute_change for one in found])],
    ]
    columns = ["change from the first to the second", "cells within 5 %", "median size", "largest", "at"]
    for row, name in zip(rows, ("time_change", "absolute_change"), strict=True):
        worst = max(found, key=lambda one: abs(getattr(one, name)))
        row.append(
            f"{markdown_text(worst.model)}, {worst.length:,}" + (" compiled" if worst.compiled else "")
        )
    return ", ".join(same) + f".{ended}\n\n" + markdown_table(columns, rows) + "\n"


def _count(equal: Sequence[bool | None]) -> str:
    """'3 of 4', of those that are known."""
    known = [one for one in equal if one is not None]
    return f"{sum(known)} of {len(known)}"


def _spread(changes: Sequence[float]) -> list[str]:
    sizes = [abs(change) for change in changes]
    close = sum(size <= CLOSE for size in sizes)
    return [f"{close} of {len(sizes)}", f"{statistics.median(sizes):.1%}", f"{max(sizes):.1%}"]
