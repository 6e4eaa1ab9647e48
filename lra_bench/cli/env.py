"""`lra-bench env`: what a record says of this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  lra-bench env
  lra-bench env --json"""


def env(
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show device, versions, threads and load, as they go into a record."""
    import torch

    from lra_bench.measure.environment import describe_environment
    from lra_bench.report.terminal import console, print_mapping

    content = describe_environment(torch.device(device))
    if as_json:
        typer.echo(json.dumps(content, indent=1))
    else:
        print_mapping(console(), content)
