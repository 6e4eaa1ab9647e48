"""`lra-bench compare`: two sets of results side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lra_bench.errors import UsageError

if TYPE_CHECKING:
    from lra_bench.records import RunRecord

EXAMPLES = """\b
Examples:
  lra-bench compare results other-machine/results
  lra-bench compare before.json after.json --all"""


def compare(
    before: Annotated[Path, typer.Argument(help="Folder of results, or one record.")],
    after: Annotated[Path, typer.Argument(help="The same, to compare with.")],
    everything: Annotated[bool, typer.Option("--all", help="Also show what is the same.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show what differs between two sets of results, cell by cell; never fails because of it."""
    from lra_bench.files import write_atomically
    from lra_bench.regression.judgement import Finding
    from lra_bench.regression.records import compare_records
    from lra_bench.report.regression import finding_json, findings_markdown, print_findings
    from lra_bench.report.terminal import console

    found: list[Finding] = compare_records(_records(before), _records(after))
    if markdown is not None:
        write_atomically(markdown, findings_markdown(found))
    if as_json:
        print(json.dumps([finding_json(one) for one in found], indent=1))
        return
    out = console()
    shown = [one for one in found if everything or one.verdict != "same"]
    print_findings(out, shown)
    out.print(f"{len(found)} figures compared, {sum(one.verdict == 'same' for one in found)} the same.")


def _records(path: Path) -> list[RunRecord]:
    from lra_bench.record_store import load_records, read_record

    if path.is_file():
        return [read_record(path)]
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or folder. Name a folder of results or a record.")
    records = load_records(path)
    if not records:
        raise UsageError(f"{path}: no records in it. A folder of results has a folder `runs`.")
    return records
