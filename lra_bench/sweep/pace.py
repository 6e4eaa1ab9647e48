"""How long a sweep will still take, from what its cells took so far."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from lra_bench.sweep.engine import Entry


def time_left_s(entries: Sequence[Entry], at_once: int) -> float | None:
    """Seconds until every cell is settled; None before the first has told anything.

    A cell is taken to last as long as others of its model and task, else of its task, else as any of its
    role (control, trial or cell), else as any.
    """
    known = [entry for entry in entries if entry.took_s is not None and entry.is_ok]
    if not known:
        return None
    took: dict[tuple[str, ...], list[float]] = {}
    for entry in known:
        for key in _keys(entry):
            took.setdefault(key, []).append(entry.took_s or 0.0)
    left = 0.0
    now = time.monotonic()
    for entry in entries:
        if entry.is_settled:
            continue
        whole = next(statistics.fmean(took[key]) for key in _keys(entry) if key in took)
        ran = now - entry.since if entry.state == "running" else 0.0
        left += max(whole - ran, 0.0)
    return left / at_once


def _keys(entry: Entry) -> list[tuple[str, ...]]:
    """From the nearest kin to the whole family."""
    role, cell = entry.item.role, entry.cell
    return [(role, cell.model, cell.task), (role, "", cell.task), (role,), ()]
