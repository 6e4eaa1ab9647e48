"""`lra-bench run`: one honest cell of the table."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli.arguments import parse_seeds, split_names, use_data_dir
from lra_bench.errors import CellFailedError, UsageError

if TYPE_CHECKING:
    from lra_bench.cell import Cell

EXAMPLES = """\b
Examples:
  lra-bench run --model linformer --task pathfinder
  lra-bench run --model transformer,local --task listops --seeds 0,1,2 --steps 1000
  lra-bench run --model transformer --task listops --protocol lite --nproc 4
  lra-bench run --ablate groupbert --task image"""


def run(
    task: Annotated[str, typer.Option(help="Task name or comma list.")],
    model: Annotated[str, typer.Option(help="Model name, comma list or package.module:Class.")] = "",
    ablate: Annotated[str, typer.Option(help="Instead of --model: every step of this model's ladder.")] = "",
    protocol: Annotated[str, typer.Option(help="quick, lite, lra-2020 or a YAML file.")] = "quick",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16 (autocast).")] = "fp32",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the model.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, dropout and order.")] = 0,
    seeds: Annotated[str | None, typer.Option(help="Several: 0,1,2 or 0-4.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. model.rank=64. Repeatable.")
    ] = None,
    length: Annotated[int | None, typer.Option(help="Longest sequence, in tokens.")] = None,
    steps: Annotated[int | None, typer.Option(help="As --set budget.steps=N.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="As --set budget.batch_size=N.")] = None,
    nproc: Annotated[
        int | None, typer.Option(help="Processes (CUDA devices) that share each cell's batches.")
    ] = None,
    metrics: Annotated[str, typer.Option(help="Which to take.")] = "accuracy,time,memory,flops",
    controls: Annotated[bool, typer.Option(help="Run the task's controls where missing.")] = True,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of source data.")] = None,
    results: Annotated[Path, typer.Option(help="Folder for records.")] = Path("results"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run finished cells again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Records as JSON on stdout.")] = False,
) -> None:
    """Train and measure a model on a task; ends with a record and a table."""
    from lra_bench import api
    from lra_bench import protocol as protocols
    from lra_bench.cell import parse_assignments, resolve_cell
    from lra_bench.cli.progress import RunReporter
    from lra_bench.distributed import place
    from lra_bench.ladder import ladder_cells
    from lra_bench.launch.processes import check_processes
    from lra_bench.report import terminal

    here = place()
    if here.size > 1 and not here.is_first and not dry_run:
        from lra_bench import worker

        raise typer.Exit(worker.main())  # told by the first what to do
    processes = here.size if nproc is None else nproc
    assignments = parse_assignments(settings or [])
    for key, value in (("budget.steps", steps), ("budget.batch_size", batch_size)):
        if value is not None:
            assignments[key] = value
    use_data_dir(data_dir)
    loaded = protocols.load(protocol)
    names, tasks = split_names(ablate or model), split_names(task)
    if not (names and tasks) or (ablate and model):
        raise UsageError("Name at least one --task, and either --model or --ablate.")
    cells: list[Cell] = []
    climbed: list[tuple[str, str, str]] = []  # ladder, label, run id
    for one_task, name, one_seed in itertools.product(tasks, names, parse_seeds(seed, seeds)):
        shared: dict[str, Any] = {
            "protocol": loaded,
            "device": device,
            "seed": one_seed,
            "precision": precision,
            "compiled": compiled,
            "metrics": split_names(metrics),
            "assignments": assignments,
            "length": length,
        }
        if not ablate:
            cells.append(resolve_cell(name, one_task, **shared))
            continue
        for rung, cell in ladder_cells(name, one_task, **shared):
            cells.append(cell)
            climbed.append((name, rung.label, cell.run_id))
    # Ladders share their first rung: it is run once and stands in each.
    cells = list({cell.run_id: cell for cell in cells}.values())
    if here.size > 1 and (len(cells) > 1 or processes != here.size):
        raise UsageError("Under torchrun, run one cell at a time, and leave out --nproc: torchrun has it.")
    for cell in cells:
        check_processes(cell, processes)
    check_writable(results)
    console = terminal.console(stderr=as_json)
    if dry_run:
        terminal.print_plan(console, cells, loaded, results)
        return
    failed = False
    records = []
    for cell in cells:
        terminal.print_header(console, cell, loaded, results)
        try:
            with RunReporter(sys.stderr) as reporter:
                record = api.run_with_controls(
                    cell,
                    loaded,
                    results,
                    overwrite=overwrite,
                    controls=controls,
                    processes=processes,
                    on_event=reporter,
                )
        except CellFailedError as error:
            # The other cells still have their turn.
            print(f"Error: {error}", file=sys.stderr)
            failed = True
            continue
        records.append(record)
        failed |= record.status != "ok"
        terminal.print_record(console, record, loaded, cell.record_path(results))
    if ablate:
        by_id = {record.run_id: record for record in records}
        found = [(ladder, label, by_id[run_id]) for ladder, label, run_id in climbed if run_id in by_id]
        terminal.print_ladders(console, found)
    elif len(records) > 1:
        terminal.print_seeds(console, records)
    if as_json:
        print(json.dumps([record.model_dump(mode="json", by_alias=True) for record in records], indent=1))
    if failed:
        raise typer.Exit(1)


def check_writable(folder: Path) -> None:
    """Before any work: a record that can't be written is a run for nothing."""
    from lra_bench.errors import DataError
    from lra_bench.files import atomic_path

    try:
        with atomic_path(folder / "runs" / ".writable") as probe:
            probe.write_bytes(b"")
        (folder / "runs" / ".writable").unlink(missing_ok=True)
    except (OSError, DataError) as error:
        raise DataError(
            f"The results folder {folder} cannot be written ({error}). Choose another with --results."
        ) from None
