"""`lra-bench env`: what a record says of this machine, and whether the instruments work on it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  lra-bench env
  lra-bench env --check --json"""


def env(
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    check: Annotated[
        bool, typer.Option("--check", help="Hold timer, memory meter and FLOP counter to known things.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show device, versions, threads and load, as they go into a record; or check the instruments."""
    from lra_bench.cell import resolve_device

    device, _ = resolve_device(device)
    if check:
        check_instruments(device, as_json)
        return
    from lra_bench.measure.environment import describe_environment
    from lra_bench.report.terminal import console, print_mapping

    content = describe_environment(device)
    if as_json:
        typer.echo(json.dumps(content, indent=1))
    else:
        print_mapping(console(), content)


def check_instruments(device: str, as_json: bool) -> None:
    """Exit code 1 where one failed."""
    from lra_bench.measure.self_check import run_checks
    from lra_bench.report.terminal import console, print_rows

    checks = run_checks(device)
    if as_json:
        typer.echo(json.dumps([one.to_dict() for one in checks], indent=1))
    else:
        rows = [{**one.to_dict(), "advice": "" if one.status == "ok" else one.advice} for one in checks]
        print_rows(console(), rows)
    if any(one.status == "failed" for one in checks):
        raise typer.Exit(1)
