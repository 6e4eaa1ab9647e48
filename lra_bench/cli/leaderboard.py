"""`lra-bench leaderboard`: tables from records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lra_bench.records import RunRecord

EXAMPLES = """\b
Examples:
  lra-bench leaderboard
  lra-bench leaderboard --results results --results shared/results"""


def leaderboard(
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of records; repeatable. Default: results.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Markdown file; default: LEADERBOARD.md in the first.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the file is out of date.")
    ] = False,
) -> None:
    """Print and write one table per protocol and device."""
    from lra_bench.bench.records import load_sessions
    from lra_bench.errors import DataError, UsageError
    from lra_bench.files import write_atomically
    from lra_bench.records import load_records, read_correct
    from lra_bench.report.leaderboard import leaderboard as build
    from lra_bench.report.terminal import console, print_boards

    folders = results or [Path("results")]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--results {folder}: no such folder. Run a cell first, or name another.")
    faults: list[DataError] = []
    paths: dict[str, Path] = {}
    records = load_records(folders, faults=faults, paths=paths)

    def correctness(record: RunRecord) -> NDArray[np.bool_] | None:
        try:
            return read_correct(paths[record.run_id], record)
        except DataError as error:
            faults.append(error)
            return None

    sessions = [session for folder in folders for session in load_sessions(folder)]
    board = build(records, correctness=correctness, sessions=sessions)
    path = out or folders[0] / "LEADERBOARD.md"
    text = board.markdown()
    if check:
        if not path.exists() or path.read_text("utf-8") != text:
            typer.echo(f"{path} is out of date: run lra-bench leaderboard.", err=True)
            raise typer.Exit(1)
    else:
        print_boards(console(), board)
        write_atomically(path, text)
        typer.echo(f"Written to {path}")
    for fault in faults:
        print(f"Error: {fault}", file=sys.stderr)
    if faults:
        raise typer.Exit(DataError.exit_code)
