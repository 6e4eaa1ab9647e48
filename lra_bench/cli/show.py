"""`lra-bench show`: a card, a protocol, a record or a measuring session."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.errors import UsageError, suggest

EXAMPLES = """\b
Examples:
  lra-bench show linformer
  lra-bench show 1f0c3a9d"""


def show(
    name: Annotated[
        str, typer.Argument(help="Model, task, protocol, or the start of a run's or session's id.")
    ],
    results: Annotated[Path, typer.Option(help="Folder of records.")] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show what a model, a task, a protocol, a run or a measuring session is."""
    from lra_bench import protocol as protocols
    from lra_bench import registry
    from lra_bench.data.building import task_options
    from lra_bench.data.task import Task
    from lra_bench.report.card import card, entry_card, print_card
    from lra_bench.report.terminal import console, print_mapping

    dotted_task = ":" in name and issubclass(registry.models.get(name).load(), Task)
    if name in registry.models.names() or (":" in name and not dotted_task):
        entry = registry.models.get(name)
        if as_json:
            typer.echo(json.dumps(card(entry), indent=1))
        else:
            print_card(console(), entry)
        return
    if name in registry.tasks.names() or dotted_task:
        entry = registry.tasks.get(name)
        content = entry_card(entry, task_options(entry))
    elif name in protocols.names():
        content = protocols.load(name).model_dump(mode="json")
    elif any((results / "bench").glob(f"*/{glob.escape(name)}*")):
        show_session(name, results, as_json)
        return
    else:
        content = _run(name, results)
    if as_json:
        typer.echo(json.dumps(content, indent=1))
    else:
        print_mapping(console(), content)


def show_session(name: str, results: Path, as_json: bool) -> None:
    """The tables of a measuring session, or a list with one object per cell."""
    from lra_bench.bench.analysis import efficiency_rows
    from lra_bench.bench.records import find_session
    from lra_bench.report.bench import print_session
    from lra_bench.report.terminal import console

    session = find_session(results, name)
    if as_json:
        typer.echo(json.dumps(efficiency_rows(session), indent=1))
    else:
        print_session(console(), session)


def _run(name: str, results: Path) -> dict[str, Any]:
    from lra_bench import protocol as protocols
    from lra_bench import registry
    from lra_bench.record_store import read_record, record_files

    found = [path for path in record_files(results) if path.stem.startswith(name)]
    if len(found) == 1:
        return read_record(found[0]).model_dump(mode="json", by_alias=True)
    if found:
        raise UsageError(f"{name!r} begins {len(found)} run ids: {', '.join(path.stem for path in found)}.")
    known = [*registry.models.names(), *registry.tasks.names(), *protocols.names()]
    raise UsageError(
        f"Nothing is called {name!r}, and no run id in {results} begins so. {suggest(name, known)}"
    )
