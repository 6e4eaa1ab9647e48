"""All figures of a leaderboard, by file name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lra_bench.bench.records import Session
from lra_bench.records import RunRecord
from lra_bench.report.board import Board, Leaderboard
from lra_bench.report.ladders import climbs
from lra_bench.report.pareto import COSTS
from lra_bench.report.plots.arena import arena_figure, trades_of
from lra_bench.report.plots.curves import curves_figure
from lra_bench.report.plots.growth import growth_figure
from lra_bench.report.plots.heat import heat_figure
from lra_bench.report.plots.ladder import ladder_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def board_figures(
    leaderboard: Leaderboard, sessions: Sequence[Session], records: Sequence[RunRecord]
) -> Iterator[tuple[str, str, Figure]]:
    """(name, title, figure) of each; a board without scores has none, a session has two."""
    for number, board in enumerate(leaderboard.boards):
        scores = [score for row in board.rows for score in row.scores]
        if not any(score.summary for score in scores):
            continue
        members = runs_of(board, records)
        commit = commits_of(members)
        if board.speed is not None and trades_of(board, board.speed):
            for cost in COSTS:
                figure = arena_figure(board, board.speed, cost, commit=commit)
                yield f"{number}_accuracy_{cost}", f"Accuracy against {cost}: {board.title}", figure
        yield f"{number}_heat", f"Accuracy, task by task: {board.title}", heat_figure(board, commit=commit)
        if any(record.accuracy and record.accuracy.curve for record in members):
            curves = curves_figure(members, board.title, commit=commit)
            yield f"{number}_curves", f"Learning curves: {board.title}", curves
        if found := climbs(members):
            ladder = ladder_figure(found, board.title, commit=commit)
            yield f"{number}_ladders", f"Ladders: {board.title}", ladder
    for session in sessions:
        for quantity in COSTS:
            for compiled in session.record.compiled:
                kind = "compiled, " if compiled else ""
                name = f"{session.record.session}_{quantity}{'_compiled' if compiled else ''}"
                title = f"Growth of {quantity}: {kind}session {session.record.session}"
                yield name, title, growth_figure(session, quantity, compiled=compiled)


def runs_of(board: Board, records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records that stand on a board, each once."""
    by_run = {record.run_id: record for record in records}
    runs = dict.fromkeys(run for row in board.rows for score in row.scores for run in score.run_ids)
    return [by_run[run] for run in runs if run in by_run]


def commits_of(records: Sequence[RunRecord]) -> str:
    """That of all records, or how many they have."""
    commits = sorted({str(record.provenance.get("commit") or "unknown") for record in records})
    return commits[0] if len(commits) == 1 else f"{len(commits)} different"
