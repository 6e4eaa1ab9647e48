"""Leaderboard tables from records: one per protocol and device, never mixed.

Same records, same bytes: nothing here depends on the clock, the machine or the order of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lra_bench.bench.records import Session
from lra_bench.records import RunRecord
from lra_bench.report.bench_tables import break_even_table, growth_table
from lra_bench.report.bench_text import plain
from lra_bench.report.further import commands_table, families_table, missing_table
from lra_bench.report.ladders import climbs, ladder_table
from lra_bench.report.numbers import binary_bytes, duration, percent, si, tuning_label
from lra_bench.report.pareto import pareto_front, trades
from lra_bench.report.published_tables import (
    HEADING,
    WARNING,
    published_accuracy_tables,
    published_training_tables,
)
from lra_bench.report.scoring import (
    AVERAGES,
    NOT_RUN,
    PARAMETER_MARK,
    REASONS,
    Correctness,
    TaskScore,
    average_over_tasks,
    coverage,
    label_of,
    task_key,
    task_score,
    tie_letters,
)
from lra_bench.report.speed import COLUMNS as SPEED_COLUMNS
from lra_bench.report.speed import speed_cells, speed_note, speed_session
from lra_bench.report.table import Table, markdown_table

if TYPE_CHECKING:
    import pandas as pd

LEGEND = (
    "Accuracy in per cent with its 95 % interval; n is the number of seeds. `-` not run, `OOM` out of "
    "memory, `T/O` time limit, `NaN` diverged, `n/a` not defined, `speed only` measured without training. "
    "`(c)` not distinguishable from chance, `(k)` not above the task's best control, "
    "`(?)` no control beside it. "
    "Models of a column that share a small letter can't be told apart (paired bootstrap over seeds and "
    "examples, corrected by Holm for all pairs, 5 %); only models with two seeds or more are compared. "
    f"Parameters are relative to the Transformer's without embeddings; `!` above {PARAMETER_MARK:.2f}. "
    "Controls stand first."
)
DATA_SECTIONS = {"task", "data", "evaluation"}


PARETO = "Pareto"
TRIALS = "trials"


class Group(NamedTuple):
    """What all cells of a board share."""

    device: str
    protocol: str
    sha256: str
    data_changes: str
    other_changes: str
    precision: str
    compiled: bool
    tuning_trials: int = 0
    """Settings tried for each model: what was tuned never stands beside what was not."""

    @property
    def changes(self) -> str:
        """What differs from the protocol as it is."""
        tuned = tuning_label(self.tuning_trials)
        return ", ".join(filter(None, [self.data_changes, self.other_changes, tuned]))


@dataclass(frozen=True)
class Row:
    """One line of a board: a model."""

    cells: list[str]
    control: bool
    label: str
    family: str
    scores: list[TaskScore]
    """One for each task column."""

    @property
    def short_cells(self) -> list[str]:
        """Cells without intervals; the scores stand after the three of the model."""
        after = 3 + len(self.scores)
        ratios = [text.partition(" (")[0] for text in self.cells[after:]]
        return [*self.cells[:3], *(score.short for score in self.scores), *ratios]


@dataclass
class Board:
    """A table for one protocol on one device."""

    title: str
    group: Group
    ranks: bool
    columns: list[str]
    rows: list[Row]
    details_columns: list[str]
    details: list[list[str]]
    notes: list[str] = field(default_factory=list)
    speed: Session | None = None
    """Where its columns of time, memory and FLOPs come from."""
    further: list[Table] = field(default_factory=list)

    def markdown(self) -> str:
        parts = [f"## {self.title}", markdown_table(self.columns, [row.cells for row in self.rows])]
        parts += self.notes
        parts += [
            "<details><summary>Cells</summary>\n",
            markdown_table(self.details_columns, self.details),
            "</details>",
        ]
        for table in self.further:
            if table.rows:
                lines = markdown_table(table.columns, (row.values() for row in table.rows))
                body = "\n\n".join(filter(None, (table.note, lines)))
                parts.append(f"<details><summary>{table.title}</summary>\n\n{body}\n\n</details>")
        return "\n\n".join(parts)

    def latex(self) -> str:
        """A table in the manner of booktabs, as wide as a page of one column: means without intervals.

        Where the protocol ranks, a column's best score is bold. What the notes say stands above as comments.
        """
        left_out = {"family", PARETO}
        rows = [
            {
                name: cell.replace(" (c)", "†").replace(" (k)", "‡")
                for name, cell in zip(self.columns, row.short_cells, strict=True)
                if name not in left_out
            }
            for row in self.rows
        ]
        caption = "Test accuracy in %, mean over seeds; † not above chance, ‡ not above the best control. "
        if self.speed is not None:
            caption += speed_note(self.speed, self.group.compiled)
        comments = [f"% {plain(note)}" for note in self.notes]
        table = Table(self.title, caption.replace("`", ""), rows)
        return "\n".join([*comments, table.latex(bold=self._best() if self.ranks else set(), compact=True)])

    def _best(self) -> set[tuple[int, str]]:
        """(row, column) of the greatest mean in each task's column, controls left out."""
        best: dict[str, tuple[float, int]] = {}
        for index, row in enumerate(self.rows):
            for score in row.scores:
                if score.summary is not None and not row.control:
                    mean = score.summary.mean
                    if score.column not in best or mean > best[score.column][0]:
                        best[score.column] = (mean, index)
        return {(index, column) for column, (_, index) in best.items()}


@dataclass
class Leaderboard:
    """All boards of a set of records."""

    boards: list[Board]

    def markdown(self) -> str:
        head = "# Leaderboard\n\nGenerated by `lra-bench leaderboard`; do not edit."
        if not self.boards:
            return f"{head}\n\nNo records yet.\n"
        others = [*published_accuracy_tables(), *published_training_tables()]
        published = [f"## {HEADING}", WARNING, *(table.markdown(level=3) for table in others)]
        boards = [board.markdown() for board in self.boards]
        return "\n\n".join([head, LEGEND, *boards, *published]) + "\n"

    def latex(self) -> str:
        """All boards, ready to paste."""
        head = "% Generated by lra-bench leaderboard. Needs \\usepackage{booktabs}."
        return "\n\n".join([head, *(board.latex() for board in self.boards)]) + "\n"

    def score_rows(self) -> list[dict[str, Any]]:
        """One flat dictionary for each model and task of each board: what the tables say, as numbers."""
        return [
            {
                "device": board.group.device,
                "protocol": board.group.protocol,
                "protocol_sha256": board.group.sha256,
                "changes": board.group.changes,
                "precision": board.group.precision,
                "compiled": board.group.compiled,
                "model": row.label,
                "family": row.family,
                "control": row.control,
                "task": score.column,
                "dataset": score.dataset,
                "chance": score.chance,
                "mean": score.summary and score.summary.mean,
                "low": score.summary and score.summary.low,
                "high": score.summary and score.summary.high,
                "seeds": score.summary.seeds if score.summary else 0,
                "failed": score.failed,
                "status": score.status,
                "verdict": score.verdict,
                "letters": score.letters,
                "runs": " ".join(score.run_ids),
            }
            for board in self.boards
            for row in board.rows
            for score in row.scores
        ]

    def frame(self) -> pd.DataFrame:
        """`score_rows` as a frame: the long form."""
        import pandas as pd

        return pd.DataFrame(self.score_rows())

    def wide_frame(self) -> pd.DataFrame:
        """Mean accuracies, one row for each model of each board and one column for each task."""
        index = ["device", "protocol", "changes", "precision", "compiled", "model", "family", "control"]
        frame = self.frame()
        if frame.empty:
            return frame
        return frame.pivot_table(index=index, columns="task", values="mean", sort=False).reset_index()


def leaderboard(
    records: Sequence[RunRecord],
    *,
    correctness: Correctness = lambda _: None,
    sessions: Sequence[Session] = (),
) -> Leaderboard:
    """Boards in the order of device, protocol and what was changed of it.

    correctness: where it is known, models of a column are compared example by example.
    sessions: measuring sessions, from which speed, memory and FLOPs are taken.

    A protocol that was changed in place would show as two boards, each with its hash. Controls train
    under a section of their own, so they stand in every board of their protocol, device and data.
    """
    records = sorted(records, key=lambda record: record.run_id)
    groups: dict[Group, list[RunRecord]] = {}
    for record in records:
        if not record.model.control:
            groups.setdefault(_group(record), []).append(record)
    homes = {_home(group) for group in groups}
    for record in records:
        if record.model.control:
            group = _group(record)
            if _home(group) not in homes:
                groups.setdefault(group, [])
            for other, members in groups.items():
                if _home(other) == _home(group):
                    members.append(record)
    return Leaderboard([_board(group, groups[group], correctness, sessions) for group in sorted(groups)])


def _group(record: RunRecord) -> Group:
    changes = sorted(record.protocol.overrides.items())
    return Group(
        record.device,
        record.protocol.name,
        record.protocol.sha256,
        ", ".join(f"{key}={value}" for key, value in changes if key.partition(".")[0] in DATA_SECTIONS),
        ", ".join(f"{key}={value}" for key, value in changes if key.partition(".")[0] not in DATA_SECTIONS),
        record.precision,
        record.compiled,
        record.protocol.tuning_trials,
    )


def _home(group: Group) -> tuple[str, ...]:
    """What a control and a model must have in common to stand in one table."""
    return group.device, group.protocol, group.sha256, group.data_changes


def _board(
    group: Group, records: list[RunRecord], correctness: Correctness, sessions: Sequence[Session]
) -> Board:
    columns = _task_columns(records)
    by_model: dict[str, list[RunRecord]] = {}
    for record in records:
        by_model.setdefault(label_of(record), []).append(record)
    order = sorted(by_model, key=lambda label: _order(by_model[label][0], label))
    groups = {
        name: tie_letters([r for r in records if _column(r, columns) == name], correctness)
        for name in columns.values()
    }
    ranks = records[0].protocol.ranks
    speed = speed_session(
        sessions,
        device=group.device,
        protocol_sha256=group.sha256,
        precision=group.precision,
        compiled=group.compiled,
    )
    rows = []
    for label in order:
        runs = by_model[label]
        first = runs[0]
        scores = [
            task_score(name, [r for r in runs if _column(r, columns) == name], groups[name].get(label, ""))
            for name in columns.values()
        ]
        cells = [label, first.model.family, _ratio(runs), *(score.text for score in scores)]
        if group.tuning_trials:
            cells.append(str(first.protocol.tuning_trials) if first.protocol.tuning_trials else NOT_RUN)
        if ranks:
            cells += [average_over_tasks(runs, number) for number in AVERAGES] + [coverage(runs)]
        if speed is not None:
            cells += speed_cells(speed, label, group.compiled, NOT_RUN, REASONS)
        rows.append(Row(cells, first.model.control, label, first.model.family, scores))
    if speed is not None:
        _add_pareto(rows, speed, group.compiled)
    shown = [record for label in order for record in by_model[label]]
    title = f"{group.protocol} on {group.device}, {group.precision}{', compiled' if group.compiled else ''}"
    notes = [f"Protocol {group.protocol} `{group.sha256[:12]}`."]
    overrides = ", ".join(filter(None, [group.data_changes, group.other_changes]))
    if overrides:
        title += f", changed: {overrides}"
    if group.tuning_trials:
        title += f", {tuning_label(group.tuning_trials)}"
        notes.append(
            f"Learning rate and weight decay are the best of {group.tuning_trials} trials on validation, "
            "the same list for every model. Controls are not tuned."
        )
    further = [TRIALS] if group.tuning_trials else []
    if ranks:
        further += [*(f"average of {number}" for number in AVERAGES), "tasks"]
        notes.append("An average is blank unless every one of its tasks has a score.")
    else:
        notes.append("No averages and no ranks under this protocol.")
    if speed is not None:
        further += [*SPEED_COLUMNS, PARETO]
        notes.append(speed_note(speed, group.compiled))
        notes.append("Pareto: tasks on which no other model has both a faster step and a better mean.")
    for (_task, sha), name in columns.items():
        data = next(r.task for r in records if _column(r, columns) == name)
        about = [f"{name}: {data.dataset}, test examples `{sha[:12] or 'none'}`.", *data.remarks]
        notes.append(" ".join(about))
    return Board(
        title,
        group,
        ranks,
        ["model", "family", "parameters", *columns.values(), *further],
        rows,
        [
            *("model", "task", "seed", "status", "accuracy", "steps", "to target", "trials"),
            *("peak memory", "FLOPs a step", "run"),
        ],
        [_detail(record, label_of(record)) for record in shown],
        notes,
        speed,
        [
            families_table(rows),
            *_growth_tables(speed, group.compiled),
            *(ladder_table(climb) for climb in climbs(shown)),
            missing_table(rows, records),
            commands_table(shown),
        ],
    )


def _growth_tables(session: Session | None, compiled: bool) -> list[Table]:
    """How time and memory grow, and from which length on a model pays; nothing for a single length."""
    if session is None or len(session.record.lengths) < 2:
        return []
    mark = " (compiled)" if compiled else ""
    return [growth_table(session, compiled, mark), break_even_table(session, compiled, mark)]


def _add_pareto(rows: Sequence[Row], speed: Session, compiled: bool) -> None:
    """The last column: tasks on whose front of accuracy and step time a model lies."""
    scored = [(row.label, row.scores) for row in rows if not row.control]
    fronts: dict[str, list[str]] = {}
    for task, models in trades(scored, speed, compiled=compiled).items():
        for one in pareto_front(models, "time"):
            fronts.setdefault(one.label, []).append(task)
    for row in rows:
        row.cells.append(", ".join(fronts.get(row.label, [])) if not row.control else "")


def _task_columns(records: Iterable[RunRecord]) -> dict[tuple[str, str], str]:
    """(task, digest of its test examples) -> column. Two versions of the data make two columns."""
    keys = sorted({task_key(record) for record in records})
    # A speed-only or failed cell has no test data; it joins the task's only column if there is one.
    names = [task for task, sha in keys if sha]
    columns = {}
    for task, sha in keys:
        if not sha and task in names:
            continue
        columns[task, sha] = f"{task} [{sha[:8]}]" if names.count(task) > 1 else task
    return columns


def _column(record: RunRecord, columns: dict[tuple[str, str], str]) -> str | None:
    key = task_key(record)
    if key in columns:
        return columns[key]
    return next((name for (task, _), name in columns.items() if task == key[0]), None)


def _order(record: RunRecord, label: str) -> tuple[bool, bool, str, str]:
    """Controls first, then the Transformer, then by family and name: an order without a judgement."""
    return (not record.model.control, record.model.name != "transformer", record.model.family, label)


def _ratio(records: Sequence[RunRecord]) -> str:
    """Depends on the task where parameters depend on the length: then from the least to the greatest."""
    ratios = sorted({f"{record.model.ratio:.2f}" for record in records if record.model.ratio}, key=float)
    if not ratios:
        return NOT_RUN
    mark = " !" if float(ratios[-1]) > PARAMETER_MARK else ""
    return (ratios[0] if len(ratios) == 1 else f"{ratios[0]} to {ratios[-1]}") + mark


def _to_target(record: RunRecord) -> str:
    """'1,200 steps, 41.0 s to 60.0 %'"""
    accuracy = record.accuracy
    if accuracy is None or accuracy.target_accuracy is None:
        return NOT_RUN
    if accuracy.steps_to_target is None or accuracy.seconds_to_target is None:
        return f"{percent(accuracy.target_accuracy)} not reached"
    seconds = duration(accuracy.seconds_to_target)
    return f"{accuracy.steps_to_target:,} steps, {seconds} to {percent(accuracy.target_accuracy)}"


def _detail(record: RunRecord, label: str) -> list[str]:
    flops, memory = record.flops, record.comparable_peak_memory
    return [
        label,
        record.task.name,
        str(record.seed),
        record.status if not record.reason else f"{record.status}: {record.reason}",
        percent(record.accuracy.best.accuracy) if record.accuracy else NOT_RUN,
        "fitted" if record.model.kind == "estimator" else f"{record.protocol.settings.budget.steps:,}",
        _to_target(record),
        str(record.protocol.tuning_trials),
        binary_bytes(memory.peak_bytes) if memory else NOT_RUN,
        si(flops.step) if flops else NOT_RUN,
        record.run_id,
    ]
