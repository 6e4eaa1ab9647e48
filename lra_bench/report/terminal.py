"""What a person sees on the terminal: the plan of a run, its result, lists and cards."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lra_bench.report.numbers import binary_bytes, duration, interval, percent, roughly, si

if TYPE_CHECKING:
    from lra_bench.cell import Cell
    from lra_bench.protocol import Protocol
    from lra_bench.records import ControlLevel, RunRecord
    from lra_bench.report.board import Leaderboard

RATIO_MARK = 1.10
"""Parameters above this multiple of the Transformer's are marked."""
NARROW = 100
CELL_GAP = 2
"""Blanks around a cell."""
NAME_WIDTH = 24
"""Of a model's name where there is little room."""


def console(*, stderr: bool = False) -> Console:
    """Colours on a terminal only, and never under NO_COLOR; plain output keeps its lines whole."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def print_header(out: Console, cell: Cell, protocol: Protocol, results: Path) -> None:
    """What will happen and how long it will take."""
    from lra_bench.report.estimate import estimate_training_s

    settings = cell.settings
    task = cell.build_task().spec
    out.print()
    out.print(
        f"[bold]{escape(cell.model)}[/]{escape(_changed(cell))} on [bold]{escape(cell.task)}[/] "
        f"({escape(task.variant)}, {task.max_length:,} tokens), "
        f"protocol [bold]{escape(cell.protocol)}[/], seed {cell.seed}, "
        f"{cell.precision}{', compiled' if cell.compiled else ''}, {cell.device_slug}"
    )
    if cell.record_path(results).exists():
        return
    if cell.model_entry.kind == "estimator":
        out.print("  Fits the training examples with a solver of its own; then scores the test set.")
    elif "accuracy" in cell.metrics:
        seconds = estimate_training_s(cell)
        about = f", {roughly(seconds)}" if seconds is not None else ""
        out.print(
            f"  Trains {settings.budget.steps:,} steps of {settings.budget.batch_size} sequences{about}; "
            f"then scores the test set. Measures {_measured(cell)} first."
        )
    else:
        out.print(f"  Measures {_measured(cell)}; no training.")
    if settings.note:
        out.print(f"  [dim]{escape(settings.note)}[/]")
    if cell.overrides:
        changes = ", ".join(f"{key}={value}" for key, value in cell.overrides.items())
        out.print(f"  [yellow]Changed from the protocol: {escape(changes)}[/]")
    if cell.device.startswith("cuda") and cell.protocol == "quick":
        out.print(
            f"  This machine has a GPU: [bold]--protocol lite[/] gives a score worth citing{_lite(cell)}."
        )


def _changed(cell: Cell) -> str:
    """' (rank=64)' where a model's options are not its defaults."""
    options = ", ".join(f"{name}={value}" for name, value in cell.changed_options.items())
    return f" ({options})" if options else ""


def _lite(cell: Cell) -> str:
    from lra_bench.cell import resolve_cell
    from lra_bench.report.estimate import estimate_training_s

    lite = resolve_cell(cell.model, cell.task, protocol="lite", device=cell.device)
    seconds = estimate_training_s(lite)
    return f" ({roughly(seconds)} here)" if seconds else ""


def _measured(cell: Cell) -> str:
    names = {"flops": "FLOPs", "memory": "peak memory", "time": "step time"}
    taken = [text for metric, text in names.items() if metric in cell.metrics]
    return ", ".join(taken) if taken else "nothing"


def print_plan(out: Console, cells: Sequence[Cell], protocol: Protocol, results: Path) -> None:
    """For --dry-run: every cell with its state and estimate."""
    from lra_bench.report.estimate import estimate_training_s

    rows = []
    for cell in cells:
        path = cell.record_path(results)
        done = path.exists()
        seconds = None if done or "accuracy" not in cell.metrics else estimate_training_s(cell)
        rows.append(
            {
                "model": cell.model + _changed(cell),
                "task": cell.task,
                "seed": cell.seed,
                "steps": cell.settings.budget.steps,
                "training": "finished" if done else (roughly(seconds) if seconds else "-"),
                "record": str(path),
            }
        )
    print_rows(out, rows)
    out.print(f"Protocol {protocol.name} ({protocol.sha256[:8]}): {escape(protocol.summary)}")


def print_record(out: Console, record: RunRecord, protocol: Protocol, path: Path) -> None:
    """The compact table at the end of a run; the record's path last."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value, remark in _record_rows(record):
        table.add_row(name, escape(value), escape(remark))
    out.print(table)
    for remark in record.task.remarks:
        out.print(f"[yellow]{escape(record.task.dataset)}[/]: {escape(remark)}")
    if record.status != "ok":
        out.print(f"[red]Ended as {record.status}[/]: {escape(record.reason or '')}")
    if record.verdict:
        colour = "green" if record.verdict.label == "above_controls" else "yellow"
        out.print(f"[{colour}]{escape(record.verdict.text)}[/]")
        if record.verdict.label != "above_controls" and not record.model.control:
            out.print(f"For a stronger statement: {escape(protocol.next)}")
    out.print(f"Record: {escape(str(path))}", soft_wrap=True)


def _record_rows(record: RunRecord) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    if record.accuracy:
        best = record.accuracy.best
        rows.append(
            (
                "Test accuracy",
                percent(best.accuracy),
                f"95 % interval {interval(best.interval)}, n = {best.n:,}, {_selection(record)}",
            )
        )
        rows.append(("Chance", percent(record.task.chance), ""))
        if record.verdict:
            rows += [_control_row(level) for level in _strongest_first(record.verdict.controls)]
        rows += _published_rows(record)
    several = f", over {record.processes} processes" if record.processes > 1 else ""
    if record.step_time:
        time = record.step_time
        noise = f"; noisy: {', '.join(time.noise)}" if time.noisy else ""
        rows.append(
            (
                "Step time",
                duration(time.median_s),
                f"median of {len(time.samples_s)}, "
                f"{duration(time.median_low_s)} to {duration(time.median_high_s)}, "
                f"batch {time.batch_size} x {time.length:,}{several}{noise}",
            )
        )
        rows.append(("Throughput", si(time.sequences_per_s, "seq/s"), si(time.tokens_per_s, "tokens/s")))
    if record.peak_memory:
        memory = record.peak_memory
        largest = ", ".join(
            f"{name} {binary_bytes(count)}"
            for name, count in sorted(memory.breakdown.items(), key=lambda item: -item[1])[:3]
        )
        of = f"of the largest of {record.processes} processes in a" if record.processes > 1 else "of one"
        note = f"{of} training step: {largest}"
        rows.append(("Peak memory", binary_bytes(memory.peak_bytes), note))
    if record.flops:
        flops = record.flops
        rows.append(("FLOPs", si(flops.step), f"per training step; forward {si(flops.forward)}"))
    rows.append(_parameter_row(record))
    for part in (record.model, record.task):
        if part.source:
            rows.append(("Code", part.source[:12], f"of {part.name}; with other code it is another run"))
    return rows


def _selection(record: RunRecord) -> str:
    """Which weights were scored, and how the others do."""
    assert record.accuracy is not None
    train = f"train: {percent(record.accuracy.train.accuracy)}"
    if record.model.kind == "estimator":
        return f"fitted in {duration(record.accuracy.train_s)} ({train})"
    best, last = record.accuracy.best, record.accuracy.last
    return f"best-validation step {best.step:,} (last step: {percent(last.accuracy)}; {train})"


def _strongest_first(levels: Sequence[ControlLevel]) -> list[ControlLevel]:
    return sorted(levels, key=lambda level: -level.accuracy)


def _control_row(level: ControlLevel) -> tuple[str, str, str]:
    from lra_bench.registry import models

    known = level.name in models.names()
    meaning = models.get(level.name).rules_out.rstrip(".") if known else ""
    remark = f"{level.name}: a score above it rules out that {meaning}" if meaning else level.name
    return "Control", percent(level.accuracy), remark


def _parameter_row(record: RunRecord) -> tuple[str, str, str]:
    parameters = record.model.parameters
    parts = f"{parameters.core:,} core + {parameters.length_dependent:,} length-dependent + "
    parts += f"{parameters.embedding:,} embedding"
    ratio = record.model.ratio
    if ratio is not None:
        mark = " (!)" if ratio > RATIO_MARK else ""
        parts += f"; {ratio:.2f} x the Transformer's without embeddings{mark}"
    return "Parameters", f"{parameters.total:,}", parts


def _published_rows(record: RunRecord) -> list[tuple[str, str, str]]:
    from lra_bench.report.published import published_scores

    found = published_scores(record.model.name, record.task.name)
    if not found:
        return []
    nearest = found[0]
    value = f"{nearest.accuracy_percent} %" if nearest.accuracy_percent is not None else nearest.remark
    remark = (
        f"{nearest.source}: {nearest.setting}. Not comparable: "
        f"{record.protocol.settings.budget.steps:,} steps here; {nearest.differs_from_ours}"
    )
    return [("Published", value, remark)]


def print_seeds(out: Console, records: Sequence[RunRecord]) -> None:
    """Mean and interval over seeds, per model and task, beside the best control."""
    from lra_bench.report.scoring import summarise

    rows = []
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        if record.accuracy:
            groups.setdefault((record.model.name, record.task.name), []).append(record)
    for (model, task), group in groups.items():
        summary = summarise([record.accuracy.best for record in group if record.accuracy])
        verdict = group[0].verdict
        controls = verdict.controls if verdict else []
        best = max(controls, key=lambda control: control.accuracy, default=None)
        rows.append(
            {
                "model": model,
                "task": task,
                "seeds": len(group),
                "mean": percent(summary.mean),
                "95 % interval": interval((summary.low, summary.high)),
                "per seed": ", ".join(percent(r.accuracy.best.accuracy) for r in group if r.accuracy),
                "best control": f"{best.name} {percent(best.accuracy)}" if best else "-",
            }
        )
    if rows:
        print_rows(out, rows)


def print_ladders(out: Console, steps: Sequence[tuple[str, str, RunRecord]]) -> None:
    """A table for each ladder and task, one line a step, with its mean over seeds where there are several.

    steps: (ladder, label of the step, record).
    """
    from lra_bench.report.ladders import ladder_row

    tables: dict[tuple[str, str], dict[str, list[RunRecord]]] = {}
    for ladder, label, record in steps:
        tables.setdefault((ladder, record.task.name), {}).setdefault(label, []).append(record)
    for (ladder, task), groups in tables.items():
        out.print(f"\nLadder of [bold]{escape(ladder)}[/] on [bold]{escape(task)}[/]")
        print_rows(out, [ladder_row(label, group) for label, group in groups.items()])


def print_rows(out: Console, rows: Sequence[Mapping[str, Any]], *, wrapping: Collection[str] = ()) -> None:
    """A plain table, one line a row; but columns named in `wrapping`, and the last one, may wrap."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, name in enumerate(rows[0]):
        last = position == len(rows[0]) - 1
        wraps = name in wrapping or (last and out.width >= NARROW)
        table.add_column(name, no_wrap=not wraps, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    out.print(table)


def print_mapping(out: Console, content: Mapping[str, Any], indent: int = 0) -> None:
    """Nested keys and values, one a line."""
    for key, value in content.items():
        lead = "  " * indent
        if isinstance(value, Mapping) and value:
            out.print(f"{lead}[bold]{escape(str(key))}[/]")
            print_mapping(out, value, indent + 1)
        elif isinstance(value, list) and len(value) > 12:
            out.print(f"{lead}[bold]{escape(str(key))}[/]  {len(value)} values", soft_wrap=True)
        else:
            out.print(f"{lead}[bold]{escape(str(key))}[/]  {escape(str(value))}", soft_wrap=True)


def print_boards(out: Console, board: Leaderboard) -> None:
    """The leaderboard's tables; where the terminal is too narrow for intervals, the means alone."""
    from lra_bench.report.board import PARETO

    for one in board.boards:
        out.print(f"\n[bold]{escape(one.title)}[/]")
        widths = [
            max([len(name), *(len(row.cells[place]) for row in one.rows)])
            for place, name in enumerate(one.columns)
        ]
        short = sum(widths) + CELL_GAP * len(widths) > out.width
        shown = [row.short_cells if short else row.cells for row in one.rows]
        # The list of tasks at the end is what a narrow terminal can do without.
        names = [name for name in one.columns if not (short and name == PARETO)]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 - short, 0, 1 - short))
        for place, name in enumerate(names):
            width = max([len(name), *(len(cells[place]) for cells in shown)]) if short else None
            # A name with many options may take several lines; numbers may not.
            narrow = min(width, NAME_WIDTH) if width is not None and place == 0 else width
            table.add_column(name, overflow="fold", min_width=narrow, max_width=narrow)
        for row, cells in zip(one.rows, shown, strict=True):
            table.add_row(*map(escape, cells[: len(names)]), style="dim" if row.control else None)
        out.print(table)
        if short:
            out.print(
                "[dim](c) not above chance, (k) not above the task's best control. Means alone: intervals "
                "and seeds are in LEADERBOARD.md, or on a wider terminal.[/]"
            )
