"""How a model's costs grow with the length, beside what its card claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lra_bench import registry
from lra_bench.bench.records import BenchRecord, Session
from lra_bench.errors import UsageError
from lra_bench.validation.growth import fit, parse_growth

RESAMPLES = 1_000
LEVEL = 0.95
Quantity = Literal["time", "bytes", "flops"]


@dataclass(frozen=True)
class CostGrowth:
    """Growth of one cost over the lengths of a session."""

    quantity: Quantity
    claim: str
    """The card's; empty where it claims nothing."""
    lengths: tuple[int, ...]
    exponent: float
    """Between the two longest lengths: log of the cost's ratio over log of the lengths' ratio."""
    low: float | None
    high: float | None
    """Bounds of the exponent at 95 %, from a bootstrap over turns. None for costs that repeat exactly."""
    r2: float | None
    """Of a + b n + c g(n), g the claimed growth. None with fewer than four lengths: three numbers fit any
    three."""
    residual: float | None
    """Largest relative difference of that fit from a measured value."""


def growth_of(session: Session, label: str, compiled: bool, quantity: Quantity) -> CostGrowth | None:
    """Growth of a model's cost, or None with fewer than two lengths measured.

    time: median step time. bytes: what the step adds at its peak to the resident state, whose own growth
    is that of position tables. flops: of a step.
    """
    read: Callable[[BenchRecord], float | None] = _READERS[quantity]
    cells = [session.find(label, length, compiled) for length in session.record.lengths]
    known = [(cell, value) for cell in cells if cell is not None and (value := read(cell))]
    if len(known) < 2:
        return None
    lengths = tuple(cell.length for cell, _ in known)
    values = [value for _, value in known]
    low = high = None
    if quantity == "time":
        low, high = _exponent_interval(session, [cell for cell, _ in known[-2:]])
    claim = _claim(known[0][0].model, quantity)
    fitted = None
    if claim and len(known) >= 4:
        try:
            fitted = fit(parse_growth(claim), lengths, values)
        except UsageError:
            claim = ""  # somebody's own card, with a claim that can't be read
    return CostGrowth(
        quantity=quantity,
        claim=claim,
        lengths=lengths,
        exponent=_exponent(values[-2:], lengths[-2:]),
        low=low,
        high=high,
        r2=fitted.r2 if fitted else None,
        residual=fitted.residual if fitted else None,
    )


def _exponent(values: Sequence[float], lengths: Sequence[int]) -> float:
    return math.log(values[1] / values[0]) / math.log(lengths[1] / lengths[0])


def _claim(model: str, quantity: Quantity) -> str:
    """Of the model's card; empty for somebody's own model without one, or whose module is not here."""
    try:
        entry = registry.models.get(model)
    except Exception:  # records outlive the modules they are of, which may fail in any way
        return ""
    return entry.memory if quantity == "bytes" else entry.time


def _exponent_interval(session: Session, cells: Sequence[BenchRecord]) -> tuple[float | None, float | None]:
    """Percentile interval of the exponent: turns are drawn again within each length."""
    rng = np.random.default_rng(0)
    medians = []
    for cell in cells:
        turns = np.asarray(_turns_s(session, cell))
        if turns.size < 2:
            return None, None
        medians.append(np.median(rng.choice(turns, size=(RESAMPLES, turns.size)), axis=1))
    exponents = np.log(medians[1] / medians[0]) / math.log(cells[1].length / cells[0].length)
    low, high = np.quantile(exponents, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _turns_s(session: Session, cell: BenchRecord) -> list[float]:
    """Median seconds of each turn. Those of a reference stand in the records of its group: its samples are
    no substitute where there are any, as steps of one turn resemble each other."""
    if cell.turns is not None:
        return cell.turns.own_s
    beside = [
        other.turns.reference_s
        for other in session.cells
        if other.turns is not None
        and (other.group, other.length, other.compiled) == (cell.group, cell.length, cell.compiled)
    ]
    if cell.role == "reference" and beside:
        return max(beside, key=len)
    return cell.step_time.samples_s if cell.step_time else []


def _time(cell: BenchRecord) -> float | None:
    return cell.step_time.median_s if cell.step_time else None


def _bytes(cell: BenchRecord) -> float | None:
    return float(cell.peak_memory.step_bytes) if cell.peak_memory else None


def _flops(cell: BenchRecord) -> float | None:
    return float(cell.flops.step) if cell.flops else None


_READERS: dict[Quantity, Callable[[BenchRecord], float | None]] = {
    "time": _time,
    "bytes": _bytes,
    "flops": _flops,
}
