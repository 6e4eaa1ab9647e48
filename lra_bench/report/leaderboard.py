"""Leaderboard tables from records: one per protocol and device, never mixed.

Same records, same bytes: nothing here depends on the clock, the machine or the order of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lra_bench.bench.records import Session
from lra_bench.latest import Chosen, choose
from lra_bench.records import RunRecord
from lra_bench.report.agreement import agreement_table
from lra_bench.report.bench_tables import break_even_table, growth_table
from lra_bench.report.board import PARETO, TRIALS, Board, Group, Leaderboard, Row
from lra_bench.report.further import commands_table, families_table, missing_table
from lra_bench.report.ladders import climbs, ladder_table
from lra_bench.report.numbers import binary_bytes, duration, percent, si, tuning_label
from lra_bench.report.pareto import pareto_front, trades
from lra_bench.report.scoring import (
    AVERAGES,
    NOT_RUN,
    PARAMETER_MARK,
    REASONS,
    Correctness,
    average_over_tasks,
    coverage,
    label_of,
    task_key,
    task_score,
    tie_letters,
)
from lra_bench.report.speed import COLUMNS as SPEED_COLUMNS
from lra_bench.report.speed import speed_cells, speed_note, speed_session
from lra_bench.report.table import Table

DATA_SECTIONS = {"task", "data", "evaluation"}


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
    Each seed counts once, and an own model has the code it was last run with (`latest`); notes say what
    was left out.
    """
    chosen = choose(sorted(records, key=lambda record: record.run_id))
    records = chosen.records
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
    boards = [_board(group, groups[group], correctness, sessions) for group in sorted(groups)]
    for board in boards:
        board.notes += _left_out(board.group, chosen)
    return Leaderboard(boards)


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


def _left_out(group: Group, chosen: Chosen) -> list[str]:
    notes = []
    older = [record for record in chosen.older_code if _group(record) == group]
    for name in sorted({record.model.name for record in older}):
        count = sum(record.model.name == name for record in older)
        notes.append(f"{name}: left out {_runs(count)} of earlier code, its own or its task's.")
    if repeated := sum(_group(record) == group for record in chosen.repeated):
        which = "that another run stands for, with a score or more measurements"
        notes.append(f"Left out {_runs(repeated)} of a seed {which}.")
    return notes


def _runs(count: int) -> str:
    return f"{count} run{'s' if count > 1 else ''}"


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
            agreement_table(rows, speed, group.compiled),
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
