"""`lra-bench list`: what there is. Reads catalogs only; imports neither torch nor any model."""

from __future__ import annotations

import fnmatch
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = """\b
Examples:
  lra-bench list models
  lra-bench list models 'lin*' --json"""


MODEL_COLUMNS = ("name", "family", "year", "time", "memory", "proof")


class Things(StrEnum):
    """What can be listed."""

    models = "models"
    tasks = "tasks"
    protocols = "protocols"
    runs = "runs"
    sessions = "sessions"
    devices = "devices"


def list_things(
    what: Annotated[Things, typer.Argument(help="What to list.")],
    pattern: Annotated[str, typer.Argument(metavar="[GLOB]", help="Only names that match.")] = "*",
    results: Annotated[Path, typer.Option(help="Folder of records, for runs and sessions.")] = Path(
        "results"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """List models, tasks, protocols, runs, measuring sessions or devices."""
    rows = {
        Things.models: _models,
        Things.tasks: _tasks,
        Things.protocols: _protocols,
        Things.runs: lambda: _runs(results),
        Things.sessions: lambda: _sessions(results),
        Things.devices: _devices,
    }
    found = rows[what]()
    if what in (Things.models, Things.tasks):
        found += _offered(what, columns=list(found[0]))
    found = [row for row in found if fnmatch.fnmatchcase(str(row["name"]), pattern)]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        typer.echo(f"No {what.value} match {pattern!r}.", err=True)
        return
    from lra_bench.report.terminal import console, print_rows

    if what is Things.models:
        # The card has the rest; names must stay whole on a narrow terminal.
        found = [{key: row[key] for key in MODEL_COLUMNS} for row in found]
    print_rows(console(), found, wrapping=("time", "memory", "proof") if what is Things.models else ())


def _models() -> list[dict[str, Any]]:
    from lra_bench.registry import models
    from lra_bench.report.proofs import proof_column

    return [
        {
            "name": entry.name,
            "family": entry.family,
            "year": entry.paper.year if entry.paper else "",
            "time": entry.time,
            "memory": entry.memory,
            "paper": f"{entry.paper.authors.split(',')[0]} {entry.paper.year}" if entry.paper else "",
            "proof": proof_column(entry.name),
            "summary": entry.summary,
        }
        for entry in models
    ]


def _tasks() -> list[dict[str, Any]]:
    from lra_bench.registry import tasks

    return [
        {
            "name": entry.name,
            "family": entry.family,
            "controls": ", ".join(entry.controls),
            "summary": entry.summary,
        }
        for entry in tasks
    ]


def _offered(what: Things, columns: list[str]) -> list[dict[str, Any]]:
    """Of installed packages. Their modules are not imported: that may take seconds, or fail."""
    from lra_bench import registry

    catalog = registry.models if what is Things.models else registry.tasks
    rows = []
    for offer in catalog.offers:
        if clash := catalog.clash(offer.name):
            typer.echo(f"Warning: {clash}", err=True)
            continue
        summary = f"{offer.target} of {offer.package}; `lra-bench show {offer.name}` has its card."
        known = {"name": offer.name, "family": "external", "summary": summary}
        rows.append(dict.fromkeys(columns, "") | known)
    return rows


def _protocols() -> list[dict[str, Any]]:
    from lra_bench import protocol as protocols

    loaded = [protocols.load(name) for name in protocols.names()]
    return [
        {
            "name": one.name,
            "hash": one.sha256[:8],
            "ranks": "yes" if one.ranks else "no",
            "summary": one.summary,
        }
        for one in loaded
    ]


def _devices() -> list[dict[str, Any]]:
    import torch

    from lra_bench.measure.environment import device_slug

    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [{"name": name, "slug": device_slug(torch.device(name))} for name in names]


def _sessions(results: Path) -> list[dict[str, Any]]:
    from lra_bench.bench.records import load_sessions

    found = [session.record for session in load_sessions(results)]
    return [
        {
            "name": one.session,
            "device": one.device,
            "precision": one.precision,
            "mode": one.mode,
            "batch": one.batch_size,
            "lengths": ", ".join(map(str, one.lengths)),
            "models": len(one.models),
            "complete": "yes" if one.complete else "no",
        }
        for one in found
    ]


def _runs(results: Path) -> list[dict[str, Any]]:
    from lra_bench.record_store import load_records
    from lra_bench.report.numbers import percent

    return [
        {
            "name": record.run_id,
            "model": record.model.name,
            "task": record.task.name,
            "protocol": record.protocol.name,
            "device": record.device,
            "seed": record.seed,
            "status": record.status,
            "accuracy": percent(record.accuracy.best.accuracy) if record.accuracy else "",
        }
        for record in load_records(results)
    ]
