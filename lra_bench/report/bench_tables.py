"""The tables of a measuring session, as plain text: every format is written from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from lra_bench.bench.analysis import (
    Ratio,
    bytes_ratio,
    flops_ratio,
    longest_that_fits,
    time_ratio,
)
from lra_bench.bench.break_even import break_even
from lra_bench.bench.growth import CostGrowth, growth_of
from lra_bench.bench.records import REFERENCE, BenchRecord, Session
from lra_bench.report.numbers import binary_bytes, duration, si
from lra_bench.report.published_tables import UNSURE
from lra_bench.report.scoring import NOT_RUN, PARAMETER_MARK, REASONS
from lra_bench.report.table import Table

NOISY = "*"


def session_tables(session: Session) -> Iterator[Table]:
    """Time, memory and FLOPs by length; growth and break-even; what every model got. Eager, then compiled;
    nothing while no cell is done."""
    if not session.cells:
        return
    for compiled in session.record.compiled:
        mark = " (compiled)" if compiled else ""
        yield _by_length(
            session,
            compiled,
            f"Step time as a ratio to {REFERENCE}{mark}",
            "Median over rounds, with its 95 % interval; below 1 is faster. "
            f"`{NOISY}` its samples were noisy.",
            _time_ratio_cell,
        )
        yield _by_length(
            session,
            compiled,
            f"Step time{mark}",
            "Median. Compares within this session only.",
            lambda _, cell: duration(cell.step_time.median_s) if cell.step_time else None,
        )
        yield _by_length(
            session,
            compiled,
            f"Peak memory{mark}",
            f"Of one step, with the ratio to {REFERENCE}; repeats to the byte.",
            _bytes_cell,
        )
        yield _by_length(
            session,
            compiled,
            f"FLOPs{mark}",
            f"Of one step, counted; the ratio to {REFERENCE}; and what it reached per second.",
            _flops_cell,
        )
        if len(session.record.lengths) > 1:
            yield growth_table(session, compiled, mark)
        yield break_even_table(session, compiled, mark)
        yield _fairness_table(session, compiled, mark)


def _by_length(
    session: Session,
    compiled: bool,
    title: str,
    note: str,
    show: Callable[[Session, BenchRecord], str | None],
) -> Table:
    rows = []
    for label in session.labels:
        row = {"model": label}
        for length in session.record.lengths:
            cell = session.find(label, length, compiled)
            row[f"{length:,}"] = _shown(session, cell, show)
        rows.append(row)
    return Table(title, note, rows)


def _shown(
    session: Session, cell: BenchRecord | None, show: Callable[[Session, BenchRecord], str | None]
) -> str:
    if cell is None:
        return NOT_RUN
    if cell.status != "ok":
        return REASONS.get(cell.status, cell.status)
    return show(session, cell) or NOT_RUN


def _time_ratio_cell(_: Session, cell: BenchRecord) -> str | None:
    ratio = time_ratio(cell)
    if ratio is None:
        return None
    mark = f" {NOISY}" if cell.step_time and cell.step_time.noisy else ""
    return f"1{mark}" if cell.role == "reference" else _ratio(ratio) + mark


def _bytes_cell(session: Session, cell: BenchRecord) -> str | None:
    if cell.peak_memory is None:
        return None
    ratio = bytes_ratio(session, cell)
    return binary_bytes(cell.peak_memory.peak_bytes) + (f" ({ratio:.2f})" if ratio is not None else "")


def _flops_cell(session: Session, cell: BenchRecord) -> str | None:
    if cell.flops is None:
        return None
    ratio = flops_ratio(session, cell)
    reached = f", {si(cell.flops_per_s)}/s" if cell.flops_per_s else ""
    return si(cell.flops.step) + (f" ({ratio:.2f})" if ratio is not None else "") + reached


def growth_table(session: Session, compiled: bool, mark: str) -> Table:
    rows = []
    for label in session.labels:
        time, size = (growth_of(session, label, compiled, what) for what in ("time", "bytes"))
        rows.append(
            {
                "model": label,
                "time": _exponent(time),
                "its card": time.claim if time else "",
                "R2": _r2(time),
                "bytes": _exponent(size),
                "card": size.claim if size else "",
                "R2 of it": _r2(size),
            }
        )
    return Table(
        f"Growth{mark}",
        "Exponents between the two longest lengths, that of time with a 95 % interval; bytes are what a step "
        "adds to the resident state. R2 is of a + b n + c g(n), g the card's claim, from four lengths on.",
        rows,
    )


def break_even_table(session: Session, compiled: bool, mark: str) -> Table:
    rows = []
    for label in session.labels:
        longest, why = longest_that_fits(session, label, compiled)
        rows.append(
            {
                "model": label,
                "in time": _pays(session, label, compiled, "time"),
                "in memory": _pays(session, label, compiled, "bytes"),
                "longest that fits": f"{longest:,}" if longest else NOT_RUN,
                "why no longer": why,
            }
        )
    lengths = session.record.lengths
    return Table(
        f"The length from which a model pays{mark}",
        f"Where it falls below {REFERENCE} and stays there up to {lengths[-1]:,} tokens, interpolated "
        f"between two lengths that were measured; `<= {lengths[0]:,}` already at the shortest. `{UNSURE}` "
        "an interval there includes 1; `to` the longest length at which there was something to compare.",
        rows,
    )


def _fairness_table(session: Session, compiled: bool, mark: str) -> Table:
    record = session.record
    rows = []
    for label in session.labels:
        cells = [
            cell
            for length in reversed(record.lengths)
            if (cell := session.find(label, length, compiled)) is not None
        ]
        shown = next((cell for cell in cells if cell.status == "ok"), cells[0] if cells else None)
        if shown is None:
            continue
        parts, ratio = shown.parameters, shown.parameter_ratio
        rows.append(
            {
                "model": label,
                "family": shown.family,
                "backend": shown.backend or NOT_RUN,
                "kernels": ", ".join(shown.kernels) or NOT_RUN,
                "parameters at": f"{shown.length:,}",
                "core": f"{parts.core:,}",
                "of length": f"{parts.length_dependent:,}",
                "embedding": f"{parts.embedding:,}",
                "ratio": NOT_RUN
                if ratio is None
                else f"{ratio:.2f}" + (" !" if ratio > PARAMETER_MARK else ""),
            }
        )
    shape = record.settings.architecture
    return Table(
        f"What every model got{mark}",
        f"The same for all: {record.precision}, {'compiled' if compiled else 'not compiled'}, checkpointing "
        f"{record.checkpointing}, batch {record.batch_size}, {shape.num_layers} layers, width {shape.dim}, "
        f"{shape.num_heads} heads. Their own: backend and parameters, whose ratio to {REFERENCE} leaves "
        f"embeddings out; `!` above {PARAMETER_MARK:.2f}.",
        rows,
    )


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def _exponent(growth: CostGrowth | None) -> str:
    if growth is None:
        return NOT_RUN
    bounds = f" ({growth.low:.2f}-{growth.high:.2f})" if growth.low is not None else ""
    return f"n^{growth.exponent:.2f}{bounds}"


def _r2(growth: CostGrowth | None) -> str:
    return f"{growth.r2:.4f}" if growth is not None and growth.r2 is not None else NOT_RUN


def _pays(session: Session, label: str, compiled: bool, quantity: Literal["time", "bytes"]) -> str:
    if label == REFERENCE:
        return NOT_RUN
    found = break_even(session, label, compiled, quantity)
    lengths, mark = session.record.lengths, "" if found.certain else f" {UNSURE}"
    if found.compared is None:
        return NOT_RUN
    shortest, longest = found.compared
    if longest < lengths[-1]:
        mark = f", to {longest:,}{mark}"
    if found.kind == "crossing" and found.between is not None:
        low, high = found.between
        about = f"{found.length:,.0f} " if found.length is not None else ""
        return f"{about}({low:,}-{high:,}){mark}"
    return (f"<= {shortest:,}" if found.kind == "throughout" else found.kind) + mark
