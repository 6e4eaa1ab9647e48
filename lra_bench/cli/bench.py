"""`lra-bench bench`: step time, memory and FLOPs of many models side by side, without training."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli.arguments import split_names
from lra_bench.errors import UsageError

EXAMPLES = """\b
Examples:
  lra-bench bench --models 'linformer,perf*' --lengths 1024,2048,4096 --batch-size 4
  lra-bench bench --batch-size 1 --lengths 1024,4096,16384 --forward-only"""


def bench(
    models: Annotated[
        str | None,
        typer.Option(help="Names, globs or package.module:Class, comma-separated. All by default."),
    ] = None,
    lengths: Annotated[str, typer.Option(help="Tokens, comma-separated.")] = "1024,2048,3072,4096",
    protocol: Annotated[
        str, typer.Option(help="Whose architecture and optimiser: a name or a file.")
    ] = "quick",
    batch_size: Annotated[
        int | None, typer.Option(help="Sequences per step; by default the protocol's, on a CPU 4.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    compiled: Annotated[bool, typer.Option("--compile", help="Measure each model compiled as well.")] = False,
    forward_only: Annotated[
        bool, typer.Option("--forward-only", help="Inference, not training steps.")
    ] = False,
    padded: Annotated[bool, typer.Option("--padded", help="Half-full to full sequences with masks.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: model.rank=64, architecture.dim=256.")
    ] = None,
    cell_seconds: Annotated[
        float, typer.Option(help="Longest timing of a cell; some turns at least.")
    ] = 60.0,
    processes: Annotated[int, typer.Option(help="Fresh ones that share a cell's timing.")] = 3,
    timeout: Annotated[float, typer.Option(help="Seconds for one answer before a cell ends as T/O.")] = 600.0,
    results: Annotated[Path, typer.Option(help="Folder for records.")] = Path("results"),
    new: Annotated[bool, typer.Option("--new", help="Measure again what is complete.")] = False,
    tables: Annotated[Path | None, typer.Option(help="Also write the tables: .md, .tex or .csv.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be measured.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object per cell on stdout.")] = False,
) -> None:
    """Measure models side by side: how fast, how big, and from which length on does it pay?"""
    from lra_bench.bench.analysis import efficiency_rows
    from lra_bench.bench.plan import resolve_plan
    from lra_bench.bench.session import run_session
    from lra_bench.cell import parse_assignments
    from lra_bench.cli.progress import SessionReporter
    from lra_bench.measure.environment import command_line
    from lra_bench.report.bench import check_ending, print_plan, print_session, write_tables
    from lra_bench.report.terminal import console

    if tables is not None:
        check_ending(tables)
    plan = resolve_plan(
        split_names(models) if models is not None else None,
        parse_lengths(lengths),
        protocol=protocol,
        batch_size=batch_size,
        device=device,
        precision=precision,
        compiled=(False, True) if compiled else (False,),
        mode="forward" if forward_only else "train",
        padded=padded,
        assignments=parse_assignments(settings or []),
        cell_seconds=cell_seconds,
        timeout_s=timeout,
        processes=processes,
    )
    if dry_run:
        print_plan(console(), plan)
        return
    with SessionReporter(sys.stderr) as reporter:
        session = run_session(plan, results, new=new, command=command_line(), on_event=reporter)
    if tables is not None:
        write_tables(session, tables)
    if as_json:
        print(json.dumps(efficiency_rows(session), indent=1))
    else:
        print_session(console(), session)
        print(f"Session: {session.folder}")


def parse_lengths(text: str) -> list[int]:
    """'1024,2048' -> [1024, 2048]"""
    try:
        parsed = [int(part) for part in split_names(text)]
    except ValueError:
        raise UsageError(f"--lengths {text!r}: expected numbers of tokens like 1024,2048.") from None
    if not parsed:
        raise UsageError(f"--lengths {text!r} names no length.")
    return parsed
