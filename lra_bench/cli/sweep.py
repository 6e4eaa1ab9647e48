"""`lra-bench sweep`: a whole table, unattended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli.arguments import parse_seeds, use_data_dir
from lra_bench.cli.run import check_writable

if TYPE_CHECKING:
    from rich.console import Console

    from lra_bench.sweep.cells import Item
    from lra_bench.sweep.engine import Entry, Sweep
    from lra_bench.sweep.plan import SweepPlan

EXAMPLES = """\b
Examples:
  lra-bench sweep --models 'transformer,linformer,perf*' --tasks listops,recall --seeds 3
  lra-bench sweep --models linformer --tasks listops --set model.rank=32,64,128 --dry-run
  lra-bench sweep table.yaml --workers 4"""

INTERRUPTED = 130


def sweep(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.yaml]", help="What options say, in a file; they win.")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Names, globs or package.module:Class.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Names or globs.")] = None,
    ablate: Annotated[str | None, typer.Option(help="Models whose ladders are run, step by step.")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many: 3 is 0,1,2. Or which: 0,1,5 or 2-4.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, or an axis: model.rank=32,64. Repeatable."),
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="quick, lite, lra-2020 or a YAML file.")] = None,
    tune: Annotated[
        int | None, typer.Option(help="Trials of learning rate and weight decay per model and task.")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Of accuracy,time,memory,flops; all.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16 (autocast).")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the models.")] = False,
    launcher: Annotated[str | None, typer.Option(help="local, slurm or ray.")] = None,
    launcher_settings: Annotated[
        list[str] | None,
        typer.Option("--launcher-set", help="KEY=VALUE of slurm or ray: partition=gpu. Repeatable."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Cells at a time.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of each cell; cores / workers.")] = None,
    shard: Annotated[str | None, typer.Option(help="i/n: the i-th of n parts of the cells.")] = None,
    retry: Annotated[str | None, typer.Option(help="failed: run cells again that ended as error.")] = None,
    max_failures: Annotated[int | None, typer.Option(help="Stop after so many errors.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Wall seconds of one cell.")] = None,
    memory_limit: Annotated[float | None, typer.Option(help="GiB of one cell.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of source data.")] = None,
    results: Annotated[Path | None, typer.Option(help="Folder for records: results.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and what they cost.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object per cell on stdout.")] = False,
) -> None:
    """Fill a table: models x options x tasks x seeds. The same command continues, and repeats nothing."""
    from lra_bench.report.terminal import console
    from lra_bench.sweep.cells import resolve_items
    from lra_bench.sweep.plan import load_plan, parse_axes, with_launcher_settings

    given = {
        "models": models,
        "tasks": tasks,
        "ablate": ablate,
        "seeds": _seeds(seeds),
        "settings": parse_axes(settings) if settings else None,
        "protocol": protocol,
        "tune": tune,
        "metrics": metrics,
        "device": device,
        "precision": precision,
        "compiled": compiled or None,
        "launcher": launcher,
        "workers": workers,
        "threads": threads,
        "shard": shard,
        "retry": retry,
        "max_failures": max_failures,
        "time_limit_s": time_limit,
        "memory_limit_gib": memory_limit,
        "data_dir": data_dir,
        "results": results,
    }
    plan = load_plan(file, {key: value for key, value in given.items() if value is not None})
    plan = with_launcher_settings(plan, launcher_settings or ())
    use_data_dir(plan.data_dir)
    if dry_run:
        rows = _planned(resolve_items(plan), plan)
        if as_json:
            print(json.dumps(rows, indent=1))
        else:
            from lra_bench.report.sweep import print_planned

            print_planned(console(), rows, plan.workers or 1)
        return
    check_writable(plan.results)
    raise typer.Exit(_run(plan, console(stderr=True), as_json))


def _seeds(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    return int(text) if text.strip().isdigit() else parse_seeds(0, text)


def _planned(items: list[Item], plan: SweepPlan) -> list[dict[str, Any]]:
    from lra_bench.launch.standing import standing
    from lra_bench.record_store import load_records
    from lra_bench.report.forecast import Forecaster
    from lra_bench.report.sweep import planned_row
    from lra_bench.sweep.tuning import chosen_before, trials_folder

    folders = [plan.results, trials_folder(plan.results)]
    forecaster = Forecaster(load_records(folders, faults=[]))
    rows = []
    for item in items:
        cell = chosen_before(item.cell, item.trials, plan.results)
        found = standing(cell, item.results) if not item.trials or cell.tuning_trials else None
        status = found.record.status if found is not None and found.record is not None else ""
        if status == "error" and plan.retry:
            status = ""
        rows.append(planned_row(cell, item.role, forecaster(cell), status, cell.record_path(item.results)))
    return rows


def _run(plan: SweepPlan, out: Console, as_json: bool) -> int:
    from lra_bench.cli.overview import Overview
    from lra_bench.measure.environment import command_line
    from lra_bench.sweep.cells import resolve_items
    from lra_bench.sweep.engine import Limits, Sweep
    from lra_bench.sweep.launchers import device_there, make_launcher

    overview = Overview(out)
    gib = plan.memory_limit_gib
    limits = Limits(plan.threads, plan.time_limit_s, None if gib is None else int(gib * 2**30))
    with _stop_on_signals() as stop, make_launcher(plan, overview.on_worker) as launcher:
        items = resolve_items(plan, device_there(plan, launcher))
        one = Sweep(
            items,
            launcher,
            command=command_line(),
            limits=limits,
            retry=plan.retry is not None,
            max_failures=plan.max_failures,
            on_event=overview.on_sweep,
        )
        overview.watch(one.entries, one.capacity)
        with overview:
            one.run(stop)
    _print_end(out, one)
    if as_json:
        print(json.dumps([_result(entry) for entry in one.entries], indent=1))
    if one.stopped and stop.is_set():
        return INTERRUPTED
    return 0 if all(entry.is_ok for entry in one.entries) else 1


def _print_end(out: Console, one: Sweep) -> None:
    from lra_bench.cli.overview import entry_label
    from lra_bench.report.sweep import print_not_ok

    bad = [entry for entry in one.entries if entry.is_settled and not entry.is_ok]
    if bad:
        lines = [
            (entry_label(entry), entry.status or "failed", entry.reason, entry.record_path) for entry in bad
        ]
        print_not_ok(out, lines)
    there = sum(entry.was_there and entry.is_ok for entry in one.entries)
    done = sum(entry.is_ok for entry in one.entries)
    missing = sum(not entry.is_settled for entry in one.entries)
    out.print(
        f"{len(one.entries)} cells: {done} ok ({there} were there before), {len(bad)} not ok"
        + (f", {missing} still to run; the same command continues" if missing else "")
        + "."
    )
    if any(entry.status == "error" and entry.was_there for entry in bad):
        out.print("Cells that ended as error before are run again with --retry failed.")


def _result(entry: Entry) -> dict[str, Any]:
    cell = entry.cell
    return {
        "run_id": cell.run_id,
        "role": entry.item.role,
        "model": cell.model,
        "options": dict(cell.changed_options),
        "task": cell.task,
        "seed": cell.seed,
        "state": entry.state,
        "status": entry.status or None,
        "accuracy": entry.accuracy,
        "reason": entry.reason or None,
        "took_s": entry.took_s,
        "record": str(entry.record_path),
    }


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM ask to save and stop. A second time this process ends at once: its workers notice,
    save and end by themselves, and everything that matters is on the disk."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()

    handlers = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
