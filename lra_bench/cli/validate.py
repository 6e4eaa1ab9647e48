"""`lra-bench validate`: the proof of the registry on anybody's model; or a check of records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.cli.arguments import split_names
from lra_bench.errors import LraBenchError, UsageError

EXAMPLES = """\b
Examples:
  lra-bench validate my_package.module:MyAttention --set model.rank=8
  lra-bench validate results/runs"""


def validate(
    what: Annotated[str, typer.Argument(help="package.module:Class, model names, or a folder of records.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. model.rank=8. Repeatable.")
    ] = None,
    dim: Annotated[int, typer.Option(help="Width of the network around it.")] = 32,
    num_heads: Annotated[int, typer.Option(help="Heads; must divide the width.")] = 4,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile it too and compare.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as JSON on stdout.")] = False,
) -> None:
    """Prove a model: padding, gradients, precision, state, cost and its growth. Exit code 1 on a failure."""
    from lra_bench.registry import models

    # A project's folder often has the name of its model.
    if what not in models.names() and ":" not in what and Path(what).exists():
        failures = _check_records(Path(what), as_json)
    else:
        failures = _prove(what, settings or [], dim, num_heads, compiled, as_json)
    if failures:
        raise typer.Exit(1)


def _prove(names: str, settings: list[str], dim: int, num_heads: int, compiled: bool, as_json: bool) -> int:
    from lra_bench.building import COMMON_OPTIONS, resolve_model_options
    from lra_bench.cell import parse_assignments
    from lra_bench.mixer import CONTRACT_ARGUMENTS
    from lra_bench.registry import models
    from lra_bench.report import proof_report, terminal
    from lra_bench.validation.checks import prove
    from lra_bench.validation.subject import Sizes, Subject

    if num_heads < 1 or dim % num_heads:
        raise UsageError(f"--num-heads {num_heads} does not divide --dim {dim}.")
    sizes = Sizes(dim=dim, num_heads=num_heads, head_dim=dim // num_heads, ffn_dim=2 * dim)
    assignments = parse_assignments(settings)
    for key in assignments:
        if not key.startswith("model."):
            raise UsageError(f"--set {key}: only options of the model (model.NAME) concern its proof.")
    given = {key.removeprefix("model."): value for key, value in assignments.items()}
    console = terminal.console(stderr=as_json)
    content: list[dict[str, Any]] = []
    failures = 0
    for name in split_names(names):
        entry = models.get(name)
        resolved = resolve_model_options(entry, given, CONTRACT_ARGUMENTS)
        options = {key: value for key, value in resolved.items() if key not in COMMON_OPTIONS}
        subject = Subject(entry, options, sizes)
        proof_report.print_subject(console, subject)
        outcomes = []
        for outcome in prove(subject, compiled=compiled):
            proof_report.print_outcome(console, outcome)
            outcomes.append(outcome)
        failures += proof_report.print_verdict(console, subject, outcomes)
        content.append(
            {
                "model": name,
                "options": options,
                "checks": [
                    {"check": one.check, "seconds": round(one.seconds, 3), **one.finding.to_dict()}
                    for one in outcomes
                ],
            }
        )
    if as_json:
        print(json.dumps(content, indent=1, default=str))
    return failures


def _reader_of(path: Path) -> Callable[[Path], object]:
    """By where the file lies: a session, a cell of one, or a run."""
    from lra_bench.bench.records import read_cell, read_session_record
    from lra_bench.record_store import read_record

    if path.name == "session.json":
        return read_session_record
    return read_cell if path.parent.name == "cells" else read_record


def _check_records(folder: Path, as_json: bool) -> int:
    """Reads every record; prints those that don't hold."""
    from lra_bench.record_store import record_files

    if folder.is_file():
        files = [folder]
    else:
        root = folder.parent if folder.name in ("runs", "bench") else folder
        files = [*record_files(root), *sorted((root / "bench").glob("*/*/session.json"))]
        files += sorted((root / "bench").glob("*/*/cells/*.json"))
    broken = {}
    for path in files:
        try:
            _reader_of(path)(path)
        except LraBenchError as error:
            broken[str(path)] = str(error)
    if as_json:
        print(json.dumps({"records": len(files), "broken": broken}, indent=1))
        return len(broken)
    for name, reason in broken.items():
        typer.echo(f"FAILED  {name}: {reason}")
    typer.echo(f"{len(files) - len(broken)} of {len(files)} records hold.")
    return len(broken)
