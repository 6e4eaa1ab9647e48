"""The tables of a measuring session, for the terminal and in Markdown: one content, two looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lra_bench import registry
from lra_bench.bench.analysis import (
    Ratio,
    bytes_ratio,
    flops_ratio,
    longest_that_fits,
    primary_cells,
    session_frame,
    time_ratio,
)
from lra_bench.bench.break_even import break_even
from lra_bench.bench.growth import CostGrowth, growth_of
from lra_bench.bench.plan import Plan
from lra_bench.bench.prediction import describe_cell
from lra_bench.bench.records import REFERENCE, BenchRecord, Session
from lra_bench.bench.workload import byte_spec
from lra_bench.errors import OptionError, UsageError
from lra_bench.files import write_atomically
from lra_bench.measure.machine import available_bytes
from lra_bench.report.bench_text import markdown_text, plain, side_by_side
from lra_bench.report.numbers import binary_bytes, duration, si
from lra_bench.report.published_tables import UNSURE, published_efficiency_tables
from lra_bench.report.scoring import NOT_RUN, PARAMETER_MARK, REASONS
from lra_bench.report.table import Table

if TYPE_CHECKING:
    from rich.console import Console

ENDINGS = (".md", ".tex", ".csv")
NOISY = "*"


def print_session(out: Console, session: Session) -> None:
    """All tables of a session on the terminal."""
    from rich.markup import escape

    from lra_bench.report.terminal import print_rows

    out.print(escape(plain(describe(session))))
    for table in session_tables(session):
        out.print(f"\n[bold]{escape(table.title)}[/]")
        out.print(f"[dim]{escape(table.note)}[/]")
        for rows in side_by_side(_changed(table, plain).rows, out.width):
            columns = list(rows[0])
            print_rows(out, rows, wrapping=(columns[0], columns[-1]))
    for warning in warnings(session):
        out.print(f"[yellow]{escape(plain(warning))}[/]")


def print_plan(out: Console, plan: Plan) -> None:
    """For --dry-run: the peak that each cell's closed form predicts, beside what is free."""
    from rich.markup import escape

    from lra_bench.report.terminal import print_rows

    rows = []
    for model in plan.models:
        row = {"model": model}
        for length in plan.lengths:
            row[f"{length:,}"] = _predicted(plan, model, length)
        rows.append(row)
    cells = sum(len(group) for group in plan.groups)
    out.print(
        f"{cells} cells in {len(plan.groups)} groups, at most {duration(plan.cell_seconds)} of timing each, "
        f"on {escape(plan.device_slug)}. Predicted peak memory:"
    )
    print_rows(out, rows)
    free = available_bytes()
    if plan.device == "cpu" and free is not None:
        out.print(f"{binary_bytes(free)} are free; what is predicted to need over 90 % of that is not tried.")


def _predicted(plan: Plan, model: str, length: int) -> str:
    entry, spec = registry.models.get(model), byte_spec(length, padded=plan.padded)
    try:
        described = describe_cell(entry, plan.options[model], plan.settings, spec, plan.mode)
    except OptionError:
        return REASONS["unsupported"]
    predicted = described["predicted_bytes"]
    return NOT_RUN if predicted is None else binary_bytes(predicted)


def session_markdown(session: Session, *, level: int = 2) -> str:
    """The same as Markdown, with headings of `level` and below."""
    parts = [f"{'#' * level} Measuring session {plain(session.record.session)}"]
    parts.append(markdown_text(describe(session)))
    parts += [_changed(table, markdown_text).markdown(level + 1) for table in _all_tables(session)]
    parts += [f"- {markdown_text(warning)}" for warning in warnings(session)]
    return "\n\n".join(parts) + "\n"


def session_latex(session: Session) -> str:
    """The same as LaTeX tables, ready to paste."""
    tables = [_changed(table, plain).latex() for table in _all_tables(session)]
    comment = plain(f"% Measuring session {session.record.session}: {describe(session)}")
    return "\n\n".join([comment, *tables]) + "\n"


def _all_tables(session: Session) -> Iterator[Table]:
    yield from session_tables(session)
    yield from published_efficiency_tables(session)


def _changed(table: Table, change: Callable[[str], str]) -> Table:
    """With `change` on every cell: names and options are somebody's own text."""
    rows = [{column: change(cell) for column, cell in row.items()} for row in table.rows]
    return Table(table.title, table.note, rows)


def write_tables(session: Session, path: Path) -> None:
    """As Markdown, LaTeX or, one line per cell, CSV: by the ending.

    Raises:
        UsageError: another ending.
    """
    writers: dict[str, Callable[[Session], str]] = {
        ".md": session_markdown,
        ".tex": session_latex,
        ".csv": lambda one: session_frame(one).to_csv(index=False, lineterminator="\n"),
    }
    check_ending(path)
    write_atomically(path, writers[path.suffix](session))


def check_ending(path: Path) -> None:
    """Raises UsageError for a file that `write_tables` can't write."""
    if path.suffix not in ENDINGS:
        raise UsageError(f"{path}: tables are written as {', '.join(ENDINGS)}; choose one of these endings.")


def describe(session: Session) -> str:
    """What was the same for every model, in words."""
    record = session.record
    shape, environment = record.settings.architecture, record.environment
    step = "training step (forward, backward, clipping, update)" if record.mode == "train" else "forward pass"
    tokens = "half-full to full sequences with masks" if record.padded else "full sequences, no mask"
    compiled = " and ".join("compiled" if one else "eager" for one in record.compiled)
    wall = f"; {duration(record.wall_s)} in all" if record.wall_s is not None else "; not complete"
    device = environment.get("device", {})
    products = f", TF32 {'on' if device['tf32'] else 'off'}" if "tf32" in device else ""
    kept = ", freed memory kept" if "MALLOC_TRIM_THRESHOLD_" in environment.get("variables", {}) else ""
    untested = " (MPS is untested)" if device.get("type") == "mps" else ""
    return (
        f"{record.device}{untested}, torch {environment['versions']['torch']}, "
        f"{environment['threads']} threads{kept}; "
        f"{record.precision}{products}, {compiled}, activation checkpointing: {record.checkpointing}. "
        f"One {step} of {record.batch_size} x n random bytes ({tokens}); protocol {record.protocol}: "
        f"{shape.num_layers} layers, width {shape.dim}, {shape.num_heads} heads, feed-forward {shape.ffn_dim}"
        f"{_overrides(session)}. Session {record.session}{wall}."
    )


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
            yield _growth_table(session, compiled, mark)
        yield _break_even_table(session, compiled, mark)
        yield _fairness_table(session, compiled, mark)


def warnings(session: Session) -> list[str]:
    """What a reader has to know before trusting a time."""
    cells = primary_cells(session)
    found = [
        f"{cell.label}, {cell.length:,} tokens{' compiled' if cell.compiled else ''}: "
        f"{REASONS.get(cell.status, cell.status)}, {cell.reason}"
        for cell in cells
        if cell.status != "ok"
    ]
    timed = [cell for cell in session.cells if cell.step_time]
    noisy = [cell for cell in timed if cell.step_time and cell.step_time.noisy]
    if noisy:
        found.append(
            f"{len(noisy)} of {len(timed)} timings are marked noisy: their samples vary by over 10 %, others "
            "used the machine, or warm-up did not settle. Ratios are paired by round and suffer less."
        )
    throttled = sum(cell.machine.throttled or 0 for cell in timed if cell.machine)
    if throttled:
        found.append(f"Cores were slowed for heat {throttled} times while cells were timed.")
    return found


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


def _growth_table(session: Session, compiled: bool, mark: str) -> Table:
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


def _break_even_table(session: Session, compiled: bool, mark: str) -> Table:
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


def _overrides(session: Session) -> str:
    changes = {key: value for key, value in session.record.overrides.items() if key != "budget.batch_size"}
    return "; changed: " + ", ".join(f"{key}={value}" for key, value in changes.items()) if changes else ""
