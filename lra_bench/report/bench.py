"""A measuring session on the terminal and in files: its tables, what was held fixed, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lra_bench import registry
from lra_bench.bench.analysis import (
    primary_cells,
    session_frame,
)
from lra_bench.bench.plan import Plan
from lra_bench.bench.prediction import describe_cell
from lra_bench.bench.records import Session
from lra_bench.bench.workload import byte_spec
from lra_bench.errors import OptionError, UsageError
from lra_bench.files import write_atomically
from lra_bench.measure.machine import available_bytes
from lra_bench.report.bench_tables import session_tables
from lra_bench.report.bench_text import markdown_text, plain, side_by_side
from lra_bench.report.numbers import binary_bytes, duration
from lra_bench.report.published_tables import published_efficiency_tables
from lra_bench.report.scoring import NOT_RUN, REASONS
from lra_bench.report.table import Table

if TYPE_CHECKING:
    from rich.console import Console

ENDINGS = (".md", ".tex", ".csv")


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


def _overrides(session: Session) -> str:
    changes = {key: value for key, value in session.record.overrides.items() if key != "budget.batch_size"}
    return "; changed: " + ", ".join(f"{key}={value}" for key, value in changes.items()) if changes else ""
