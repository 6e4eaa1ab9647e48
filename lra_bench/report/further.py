"""Tables that stand below a board: families, what is missing, and how to run each cell again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lra_bench.records import RunRecord
from lra_bench.report.reproduction import command_of
from lra_bench.report.scoring import NOT_RUN, TaskScore, label_of
from lra_bench.report.table import Table

COMMANDS = "Commands"


class Scored(Protocol):
    """A row of a board."""

    @property
    def label(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def control(self) -> bool: ...
    @property
    def scores(self) -> list[TaskScore]: ...


def families_table(rows: Sequence[Scored]) -> Table:
    """Families against each other: the mean over a family's models with their defaults, least to greatest."""
    families: dict[str, list[Scored]] = {}
    for row in rows:
        if "(" not in row.label:  # a family is not counted twice for a model with other options
            families.setdefault(row.family, []).append(row)
    lines = []
    for family, members in families.items():
        line = {"family": family, "models": str(len(members))}
        for place, score in enumerate(members[0].scores):
            means = [s.mean for row in members if (s := row.scores[place].summary) is not None]
            line[score.column] = _spread(means)
        lines.append(line)
    note = "Accuracy in per cent: mean over a family's models, least to greatest, and how many have a score."
    return Table("Families", note, lines)


def missing_table(rows: Sequence[Scored], records: Sequence[RunRecord]) -> Table:
    """Why a model has no score on a task: a line for each model that lacks one."""
    reasons = {record.run_id: record.reason for record in records}
    lines = []
    for row in rows:
        why: dict[str, list[str]] = {}
        for score in row.scores:
            if score.summary is None:
                reason = next((reasons.get(run) for run in score.run_ids if reasons.get(run)), None)
                status = f"{score.status} ({reason})" if reason else score.status
                why.setdefault(status, []).append(score.column)
        if why:
            text = "; ".join(f"{status}: {', '.join(columns)}" for status, columns in why.items())
            lines.append({"model": row.label, "missing": text})
    return Table("Missing cells", "", lines)


def commands_table(records: Sequence[RunRecord]) -> Table:
    """One line for each run."""
    return Table(
        COMMANDS,
        "Each runs a cell again; add `--overwrite` where its record is there.",
        [
            {
                "model": label_of(record),
                "task": record.task.name,
                "seed": str(record.seed),
                "command": f"`{command_of(record)}`",
            }
            for record in records
        ],
    )


def _spread(means: Sequence[float]) -> str:
    if not means:
        return NOT_RUN
    mean = f"{100 * sum(means) / len(means):.1f}"
    if len(means) == 1:
        return f"{mean} (1)"
    return f"{mean} ({100 * min(means):.1f} to {100 * max(means):.1f}; {len(means)})"
