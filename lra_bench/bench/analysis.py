"""From the records of a measuring session to ratios, rates and rows; nothing here prints.

Times are ratios to the reference of the same group, turn by turn. Bytes and FLOPs repeat exactly, so that
their ratios are plain quotients.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lra_bench.bench.records import EXPLICIT, REFERENCE, BenchRecord, Session
from lra_bench.stats import median_interval

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Ratio:
    """A quotient of two medians, with an interval that holds at `level`."""

    value: float
    low: float
    high: float
    level: float
    rounds: int

    def over(self, other: Ratio) -> Ratio:
        """Of this to the other; bounds are combined at their worst, so that the level is a lower bound."""
        level = max(0.0, self.level + other.level - 1)
        rounds = min(self.rounds, other.rounds)
        return Ratio(self.value / other.value, self.low / other.high, self.high / other.low, level, rounds)


SAME = Ratio(1.0, 1.0, 1.0, 1.0, 0)
"""Of the reference to itself."""


def time_ratio(cell: BenchRecord) -> Ratio | None:
    """Step time relative to the reference. None without paired turns.

    The median over the rounds of all processes of the quotient of two turns of the same round: a process has
    few rounds, so that one disturbed turn would move a median of its own. The interval is the
    distribution-free one of that median, widened to hold the median of each process: rounds of one process
    share what is peculiar to it.
    """
    if cell.role == "reference":
        return SAME if cell.status == "ok" else None
    if cell.turns is None or not cell.turns.own_s:
        return None
    quotients = [own / other for own, other in zip(cell.turns.own_s, cell.turns.reference_s, strict=True)]
    by_process: dict[int, list[float]] = {}
    for process, quotient in zip(cell.turns.process or [0] * len(quotients), quotients, strict=True):
        by_process.setdefault(process, []).append(quotient)
    middles = [statistics.median(values) for values in by_process.values()]
    interval = median_interval(quotients)
    return Ratio(
        statistics.median(quotients),
        min(interval.low, *middles),
        max(interval.high, *middles),
        interval.level,
        len(quotients),
    )


def time_ratio_to_explicit(session: Session, cell: BenchRecord) -> Ratio | None:
    """The same relative to the explicit matrix, through the reference that both took turns with."""
    other = session.find(EXPLICIT, cell.length, cell.compiled)
    own = time_ratio(cell)
    base = time_ratio(other) if other is not None else None
    if own is None or base is None:
        return None
    return SAME if cell.model == EXPLICIT else own.over(base)


def bytes_ratio(session: Session, cell: BenchRecord, base: str = REFERENCE) -> float | None:
    """Peak bytes relative to `base` at the same length. None where either was not measured, or otherwise."""
    other = session.find(base, cell.length, cell.compiled)
    if other is None or cell.peak_memory is None or other.peak_memory is None:
        return None
    if cell.peak_memory.method != other.peak_memory.method:
        return None
    return cell.peak_memory.peak_bytes / other.peak_memory.peak_bytes


def flops_ratio(session: Session, cell: BenchRecord, base: str = REFERENCE) -> float | None:
    """FLOPs of a step relative to `base` at the same length."""
    other = session.find(base, cell.length, cell.compiled)
    if other is None or cell.flops is None or other.flops is None or not other.flops.step:
        return None
    return cell.flops.step / other.flops.step


def longest_that_fits(session: Session, label: str, compiled: bool) -> tuple[int | None, str]:
    """The greatest length that a model was measured at, and why not the next one ('' if all were)."""
    cells = [session.find(label, length, compiled) for length in session.record.lengths]
    known = [cell for cell in cells if cell is not None]
    fitting = [cell.length for cell in known if cell.status == "ok"]
    longest = max(fitting, default=None)
    beyond = [cell for cell in known if cell.status != "ok" and cell.length > (longest or 0)]
    return longest, f"{beyond[0].length:,}: {beyond[0].status}, {beyond[0].reason}" if beyond else ""


def primary_cells(session: Session) -> list[BenchRecord]:
    """One cell for each model, length and compile setting, in the order of the plan."""
    found = [
        session.find(label, length, compiled)
        for compiled in session.record.compiled
        for label in session.labels
        for length in session.record.lengths
    ]
    return [cell for cell in found if cell is not None]


def efficiency_rows(session: Session) -> list[dict[str, Any]]:
    """One flat dictionary for each cell: all that a table or a CSV file may show. Unknown things are None."""
    return [_row(session, cell) for cell in primary_cells(session)]


def session_frame(session: Session) -> pd.DataFrame:
    """`efficiency_rows` as a frame."""
    import pandas as pd

    return pd.DataFrame(efficiency_rows(session))


def _row(session: Session, cell: BenchRecord) -> dict[str, Any]:
    record = session.record
    time, memory, flops = cell.step_time, cell.peak_memory, cell.flops
    ratio, explicit = time_ratio(cell), time_ratio_to_explicit(session, cell)
    return {
        "session": record.session,
        "device": record.device,
        "precision": record.precision,
        "mode": record.mode,
        "model": cell.label,
        "family": cell.family,
        "length": cell.length,
        "batch_size": cell.batch_size,
        "compiled": cell.compiled,
        "backend": cell.backend,
        "status": cell.status,
        "reason": cell.reason,
        "step_time_s": time and time.median_s,
        "step_time_low_s": time and time.median_low_s,
        "step_time_high_s": time and time.median_high_s,
        "step_time_level": time and time.interval_level,
        "step_time_mad_s": time and time.mad_s,
        "step_time_p05_s": time and time.p05_s,
        "step_time_p95_s": time and time.p95_s,
        "first_step_s": time and time.first_step_s,
        "samples": time and len(time.samples_s),
        "noise": "; ".join(time.noise) if time else None,
        "steps_per_s": time and 1 / time.median_s,
        "sequences_per_s": time and time.sequences_per_s,
        "tokens_per_s": time and time.tokens_per_s,
        "time_ratio": ratio and ratio.value,
        "time_ratio_low": ratio and ratio.low,
        "time_ratio_high": ratio and ratio.high,
        "time_ratio_level": ratio and ratio.level,
        "time_ratio_rounds": ratio and ratio.rounds,
        "time_ratio_to_explicit": explicit and explicit.value,
        "time_ratio_to_explicit_low": explicit and explicit.low,
        "time_ratio_to_explicit_high": explicit and explicit.high,
        "peak_bytes": memory and memory.peak_bytes,
        "state_bytes": memory and memory.state_bytes,
        "step_bytes": memory and memory.step_bytes,
        **{f"{name}_bytes": count for name, count in (memory.breakdown if memory else {}).items()},
        "process_peak_bytes": memory and memory.process_peak_bytes,
        "reserved_bytes": memory and memory.reserved_bytes,
        "predicted_bytes": cell.predicted_bytes,
        "bytes_ratio": bytes_ratio(session, cell),
        "bytes_ratio_to_explicit": bytes_ratio(session, cell, EXPLICIT),
        "forward_flops": flops and flops.forward,
        "step_flops": flops and flops.step,
        "uncovered": ", ".join(flops.uncovered) if flops else None,
        "flops_ratio": flops_ratio(session, cell),
        "flops_ratio_to_explicit": flops_ratio(session, cell, EXPLICIT),
        "flops_per_s": cell.flops_per_s,
        "parameters": cell.parameters.total,
        "parameter_ratio": cell.parameter_ratio,
    }


@dataclass(frozen=True)
class Repeat:
    """One cell in two sessions."""

    model: str
    length: int
    compiled: bool
    bytes_equal: bool | None
    """None where neither session has measured it."""
    flops_equal: bool | None
    time_change: float
    """Ratio to the reference in the second session over that in the first, less 1."""
    absolute_change: float
    """The same of the median step time itself: what the machine's drift does to it."""


def repeats(first: Session, second: Session) -> list[Repeat]:
    """Cells that both sessions have measured, apart from the reference, whose ratio is 1 in both."""
    found = []
    for cell in primary_cells(first):
        other = second.find(*cell.key)
        ratios = time_ratio(cell), time_ratio(other) if other is not None else None
        if other is None or ratios[0] is None or ratios[1] is None or cell.role == "reference":
            continue
        assert cell.step_time is not None
        assert other.step_time is not None
        bytes_of = [c.peak_memory.peak_bytes if c.peak_memory else None for c in (cell, other)]
        flops_of = [c.flops.step if c.flops else None for c in (cell, other)]
        found.append(
            Repeat(
                *cell.key,
                bytes_equal=_equal(*bytes_of),
                flops_equal=_equal(*flops_of),
                time_change=ratios[1].value / ratios[0].value - 1,
                absolute_change=other.step_time.median_s / cell.step_time.median_s - 1,
            )
        )
    return found


def ended_otherwise(first: Session, second: Session) -> list[str]:
    """Cells that both sessions have tried and that ended in different ways, in words."""
    pairs = ((cell, second.find(*cell.key)) for cell in primary_cells(first))
    return [
        f"{cell.label}, {cell.length:,}{' compiled' if cell.compiled else ''}: "
        f"{cell.status}, then {other.status}"
        for cell, other in pairs
        if other is not None and other.status != cell.status
    ]


def _equal(one: int | None, other: int | None) -> bool | None:
    return None if one is None and other is None else one == other
