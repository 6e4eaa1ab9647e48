"""Tables of a sweep: what is planned, and what did not end well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from lra_bench.cell import Cell
from lra_bench.records import model_label
from lra_bench.report.forecast import Forecast
from lra_bench.report.numbers import binary_bytes, roughly, si
from lra_bench.report.terminal import print_rows

MARK = "*"
"""At a time that follows from records."""


def planned_row(cell: Cell, role: str, forecast: Forecast, status: str, path: Path) -> dict[str, Any]:
    """One cell of a plan, as numbers; `status` is empty for one that is to run."""
    return {
        "run_id": cell.run_id,
        "role": role,
        "model": cell.model,
        "options": dict(cell.changed_options),
        "task": cell.task,
        "seed": cell.seed,
        "learning_rate": cell.settings.optimizer.learning_rate,
        "status": status,
        "time_s": forecast.time_s,
        "time_from_records": forecast.from_records,
        "peak_bytes": forecast.peak_bytes,
        "step_flops": forecast.step_flops,
        "training_flops": forecast.training_flops,
        "record": str(path),
    }


def print_planned(out: Console, rows: Sequence[dict[str, Any]], at_once: int) -> None:
    """The cells of a plan with what they will take, and the sum of what is still to do."""
    if rows:
        print_rows(out, [_planned_texts(row) for row in rows])
    open_rows = [row for row in rows if not row["status"]]
    times = [row["time_s"] for row in open_rows if row["time_s"] is not None]
    finished = len(rows) - len(open_rows)
    out.print(
        f"{len(rows)} cells: {finished} finished, {len(open_rows)} to run"
        + (f", {roughly(sum(times))} one after another" if times else "")
        + (f", {roughly(sum(times) / at_once)} with {at_once} at a time" if times and at_once > 1 else "")
        + f"; {si(sum(row['training_flops'] or 0 for row in open_rows), 'FLOP')} of training."
    )
    unknown = sum(row["time_s"] is None for row in open_rows)
    if unknown:
        out.print(f"The time of {unknown} can't be told beforehand and is not in the sum.")
    if any(row["time_from_records"] for row in open_rows):
        out.print(f"{MARK} from records of the same model and task on this device; else of training alone.")
    out.print("Times are good to a factor of about two. Memory is the closed form's guess, rather too high.")


def _planned_texts(row: dict[str, Any]) -> dict[str, str]:
    mark = MARK if row["time_from_records"] else ""
    about = row["role"] if row["role"] != "cell" else ""
    if row["role"] == "trial":
        about = f"trial, rate {row['learning_rate']:g}"
    return {
        "model": model_label(row["model"], row["options"]),
        "task": row["task"],
        "seed": str(row["seed"]),
        "": about,
        "time": row["status"] or _or_dash(row["time_s"], lambda value: roughly(value) + mark),
        "memory": _or_dash(row["peak_bytes"], binary_bytes),
        "FLOPs a step": _or_dash(row["step_flops"], si),
        "run": row["run_id"],
    }


def _or_dash(value: Any, text: Callable[[Any], str]) -> str:
    return "-" if value is None else text(value)


def print_not_ok(out: Console, lines: Sequence[tuple[str, str, str, Path]]) -> None:
    """Cells that did not end well. lines: (what, status, reason, path of the record)."""
    out.print(f"\n[red]{len(lines)} not ok[/]")
    for what, status, reason, path in lines:
        out.print(f"[bold]{escape(status)}[/]  {escape(what)}", soft_wrap=True)
        out.print(f"      {escape(reason)}", soft_wrap=True)
        if path.exists():
            out.print(f"      [dim]{escape(str(path))}[/]", soft_wrap=True)
