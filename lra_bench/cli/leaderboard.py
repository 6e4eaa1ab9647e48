"""`lra-bench leaderboard`: tables from records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lra_bench.records import RunRecord
    from lra_bench.report.board import Leaderboard

EXAMPLES = """\b
Examples:
  lra-bench leaderboard
  lra-bench leaderboard --results results --results shared/results
  lra-bench leaderboard --into README.md"""


def leaderboard(
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of records; repeatable. Default: results.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; the first of the others.")] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="A Markdown file with <!-- leaderboard: TITLE --> and, below, <!-- end of leaderboard -->: "
            "the short table of the board of that title is written between them."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a file is out of date.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object per model and task on stdout.")] = False,
) -> None:
    """Print one table per protocol and device; write them as Markdown, LaTeX, CSV and JSON."""
    from lra_bench.bench.records import load_sessions
    from lra_bench.errors import DataError, UsageError
    from lra_bench.files import write_atomically
    from lra_bench.record_store import load_records, read_correct
    from lra_bench.report.artefacts import artefacts, out_of_date, relative_files
    from lra_bench.report.leaderboard import leaderboard as build
    from lra_bench.report.terminal import console, print_boards

    folders = results or [Path("results")]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--results {folder}: no such folder. Run a cell first, or name another.")
    faults: list[DataError] = []
    paths: dict[str, Path] = {}
    conflicts: list[str] = []
    records = load_records(folders, faults=faults, paths=paths, conflicts=conflicts)

    def correctness(record: RunRecord) -> NDArray[np.bool_] | None:
        try:
            return read_correct(paths[record.run_id], record)
        except DataError as error:
            faults.append(error)
            return None

    sessions = [session for folder in folders for session in load_sessions(folder)]
    board = build(records, correctness=correctness, sessions=sessions)
    folder = out or folders[0]
    written = artefacts(board, sessions, records, files=relative_files(paths, folder))
    for conflict in conflicts:
        typer.echo(f"Conflict: {conflict}", err=True)
    text, inset = _inset(into, board)
    if check:
        stale = [folder / name for name in out_of_date(folder, written)]
        if into is not None and text != inset:
            stale.append(into)
        for path in stale:
            also = f" --into {into}" if path == into else ""
            typer.echo(f"{path} is out of date: run lra-bench leaderboard{also}.", err=True)
        if stale:
            raise typer.Exit(1)
    else:
        for name, content in written.items():
            write_atomically(folder / name, content)
        if into is not None and text != inset:
            write_atomically(into, inset)
        if as_json:
            typer.echo(json.dumps(board.score_rows(), indent=1))
        else:
            print_boards(console(), board)
            typer.echo(f"Written to {folder}: {', '.join(written)}")
    for fault in faults:
        print(f"Error: {fault}", file=sys.stderr)
    if faults:
        raise typer.Exit(DataError.exit_code)


def _inset(file: Path | None, board: Leaderboard) -> tuple[str, str]:
    """A file's text as it is and with its tables as they should be."""
    from lra_bench.errors import UsageError
    from lra_bench.report.inset import with_tables

    if file is None:
        return "", ""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--into {file}: cannot be read ({error}).") from None
    return text, with_tables(text, board, str(file))
