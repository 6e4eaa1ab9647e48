"""What the page shows, as plain data: the template only lays it out, and escapes all of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lra_bench import registry
from lra_bench.bench.analysis import efficiency_rows
from lra_bench.bench.records import Session
from lra_bench.protocol import digest
from lra_bench.records import RunRecord
from lra_bench.report.board import Board, Leaderboard, Row
from lra_bench.report.further import COMMANDS
from lra_bench.report.numbers import binary_bytes, duration, interval, percent, si
from lra_bench.report.published_tables import published_accuracy_tables, published_training_tables
from lra_bench.report.reproduction import command_of
from lra_bench.report.scoring import TaskScore, label_of
from lra_bench.report.table import Table

VERDICTS = {
    "above_controls": "above chance and above its task's best control",
    "not_above_controls": "not above its task's best control",
    "chance": "not distinguishable from chance",
    "not_compared": "no control beside it",
    "mixed": "seeds differ in what they show",
}
DEFINITIONS = {
    "model": "Name in the registry, and what was changed of its defaults.",
    "family": "How it avoids the n x n matrix.",
    "parameters": "Relative to the Transformer's under the same settings, without embeddings.",
    "time": "Step time relative to transformer, of one measuring session.",
    "peak memory": "Peak bytes of a step relative to transformer, of one measuring session.",
    "FLOPs": "Of a step, relative to transformer; a multiply-add counts as two.",
    "Pareto": "Tasks on which no other model has both a faster step and a better mean score.",
    "trials": "Learning rates and weight decays that were tried for it, and chosen from on validation.",
    "tasks": "Tasks of the largest average that have a score.",
}
TASK_DEFINITION = "Test accuracy in per cent, mean over seeds, of the best-validation weights."
AVERAGE_DEFINITION = "Mean over the tasks of this average; blank unless each has a score."


@dataclass(frozen=True)
class Column:
    """Head of a column."""

    name: str
    definition: str
    is_task: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    sort: float | str
    """What it is ordered by: a number before a word; missing ones last."""
    facts: tuple[str, ...] = ()
    """What it shows when it is opened."""
    runs: tuple[str, ...] = ()
    weak: bool = False
    """Does not beat chance or its task's best control."""


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    label: str
    family: str
    control: bool
    cells: tuple[Cell, ...]
    card: str = ""
    """Anchor of the model's card; empty where it has none."""


@dataclass(frozen=True)
class Sheet:
    """A table with what it can be filtered by."""

    title: str
    device: str
    protocol: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    families: tuple[str, ...]
    further: tuple[Table, ...] = ()
    """Tables that stand below it, folded."""


@dataclass(frozen=True)
class Entry:
    """A record, to be opened from a cell."""

    run: str
    title: str
    facts: tuple[tuple[str, str], ...]
    command: str
    environment: str
    file: str


@dataclass(frozen=True)
class Card:
    """What the registry says of a model on the page."""

    anchor: str
    name: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    link: str
    """Of its paper: https only, as the template makes it a reference."""


@dataclass(frozen=True)
class Content:
    """All of the page."""

    sheets: tuple[Sheet, ...]
    sessions: tuple[Sheet, ...]
    entries: tuple[Entry, ...]
    environments: Mapping[str, str]
    cards: tuple[Card, ...]
    published: tuple[Table, ...]
    """Others' figures, in tables of their own."""


def page_content(
    board: Leaderboard,
    records: Sequence[RunRecord],
    sessions: Sequence[Session],
    *,
    files: Mapping[str, str] | None = None,
) -> Content:
    """Everything in a fixed order.

    files: by run id, where a record's file lies relative to the page.
    """
    ordered = sorted(records, key=lambda record: record.run_id)
    environments: dict[str, str] = {}
    entries = tuple(_entry(record, environments, (files or {}).get(record.run_id, "")) for record in ordered)
    return Content(
        tuple(_sheet(one) for one in board.boards),
        tuple(_session_sheet(one) for one in sessions),
        entries,
        environments,
        tuple(_cards(_names(board, sessions))),
        (*published_accuracy_tables(), *published_training_tables()),
    )


def _sheet(board: Board) -> Sheet:
    tasks = [score.column for score in board.rows[0].scores] if board.rows else []
    columns = tuple(Column(name, _definition(name, tasks), name in tasks) for name in board.columns)
    return Sheet(
        board.title,
        board.group.device,
        board.group.protocol,
        columns,
        tuple(_line(row) for row in board.rows),
        tuple(board.notes),
        tuple(dict.fromkeys(row.family for row in board.rows)),
        # Commands stand with the records.
        tuple(table for table in board.further if table.rows and table.title != COMMANDS),
    )


def _definition(name: str, tasks: Sequence[str]) -> str:
    if name in tasks:
        return TASK_DEFINITION
    if name.startswith("average of"):
        return AVERAGE_DEFINITION
    return DEFINITIONS.get(name, "")


def _line(row: Row) -> Line:
    first = len(row.cells[:3])
    before, after = row.cells[:first], row.cells[first + len(row.scores) :]
    cells = [
        *(Cell(text, _order(text)) for text in before),
        *(_score(score) for score in row.scores),
        *(Cell(text, _order(text)) for text in after),
    ]
    return Line(row.label, row.family, row.control, tuple(cells), _anchor(row.label))


def _score(score: TaskScore) -> Cell:
    if score.summary is None:
        reason = () if score.status == "not run" else (f"Ended as: {score.status}.",)
        return Cell(score.text, "", reason, score.run_ids)
    one = score.summary
    facts = [
        f"{percent(one.mean)}, 95 % interval {interval((one.low, one.high))}, {_count(one.seeds, 'seed')}",
        f"Data: {score.dataset}",
    ]
    if one.seeds > 1 and score.above_chance is not None:
        facts.append(f"{score.above_chance} of {one.seeds} seeds above chance")
    if score.failed:
        facts.append(f"{_count(score.failed, 'run')} without a score")
    if score.verdict:
        facts.append(f"Verdict: {VERDICTS[score.verdict]}")
    if score.letters:
        facts.append(f"Can't be told apart from others with: {score.letters}")
    weak = score.verdict in ("chance", "not_above_controls")
    return Cell(score.short, 100 * one.mean, tuple(facts), score.run_ids, weak)


def _session_sheet(session: Session) -> Sheet:
    """One line for each cell of a measuring session."""
    record = session.record
    shown: list[tuple[str, str, Any]] = [
        ("length", "Tokens.", lambda row: (f"{row['length']:,}", row["length"])),
        ("compiled", "Through torch.compile.", lambda row: ("yes" if row["compiled"] else "no",) * 2),
        ("backend", "fused: a fused attention kernel ran.", lambda row: (row["backend"] or "-",) * 2),
        ("time", DEFINITIONS["time"], lambda row: _ratio(row, "time_ratio")),
        ("step time", "Median; compares within this session only.", _step_time),
        ("peak memory", "Of one step; repeats to the byte.", _bytes),
        ("memory ratio", DEFINITIONS["peak memory"], lambda row: _ratio(row, "bytes_ratio")),
        ("FLOPs", "Of one step, counted.", _flops),
        ("FLOPs ratio", DEFINITIONS["FLOPs"], lambda row: _ratio(row, "flops_ratio")),
    ]
    lines = []
    for row in efficiency_rows(session):
        cells = [Cell(row["model"], row["model"]), Cell(row["family"], row["family"])]
        for _, _, show in shown:
            text, sort = show(row)
            cells.append(Cell(text, sort))
        lines.append(Line(row["model"], row["family"], False, tuple(cells), _anchor(row["model"])))
    columns = [Column("model", DEFINITIONS["model"]), Column("family", DEFINITIONS["family"])]
    columns += [Column(name, definition) for name, definition, _ in shown]
    step = "training step" if record.mode == "train" else "forward pass"
    title = f"Speed and memory of one {step}, batch {record.batch_size}, {record.device}, {record.precision}"
    commit = str(record.provenance.get("commit") or "unknown")[:8]
    notes = (
        f"Measuring session {record.session}, commit {commit}, protocol {record.protocol}. Times compare "
        "within the session; a ratio is a median over rounds in which a model and transformer took turns.",
    )
    families = tuple(dict.fromkeys(line.family for line in lines))
    return Sheet(title, record.device, record.protocol, tuple(columns), tuple(lines), notes, families)


def _ratio(row: Mapping[str, Any], name: str) -> tuple[str, float | str]:
    value = row[name]
    if value is None:
        return (row["status"] if row["status"] != "ok" else "-", "")
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    bounds = f" ({low:.2f}-{high:.2f})" if low is not None and high is not None and low != high else ""
    return f"{value:.2f}{bounds}", value


def _step_time(row: Mapping[str, Any]) -> tuple[str, float | str]:
    value = row["step_time_s"]
    return ("-", "") if value is None else (duration(value), value)


def _bytes(row: Mapping[str, Any]) -> tuple[str, float | str]:
    value = row["peak_bytes"]
    return ("-", "") if value is None else (binary_bytes(value), value)


def _flops(row: Mapping[str, Any]) -> tuple[str, float | str]:
    value = row["step_flops"]
    return ("-", "") if value is None else (si(value), value)


def _entry(record: RunRecord, environments: dict[str, str], file: str) -> Entry:
    environment = {**record.environment}
    cpu = dict(environment.get("cpu") or {})
    for name in ("clock_mhz", "load_average", "throttle_count"):
        cpu.pop(name, None)  # of the moment; in the record itself
    if cpu:
        environment["cpu"] = cpu
    key = digest(environment)[:12]
    environments.setdefault(key, json.dumps(environment, indent=1, sort_keys=True, ensure_ascii=False))
    accuracy, step, memory = record.accuracy, record.step_time, record.peak_memory
    found = {"status": record.status if not record.reason else f"{record.status}: {record.reason}"}
    if record.verdict:
        found["verdict"] = record.verdict.text
    if accuracy:
        found["test"] = f"{percent(accuracy.best.accuracy)} ({interval(accuracy.best.interval)})"
        found["validation"] = percent(accuracy.validation.accuracy)
        found["training"] = percent(accuracy.train.accuracy)
    several = f" ({record.processes} processes)" if record.processes > 1 else ""
    if step:
        found["step time"] = duration(step.median_s) + several
    if memory:
        found["peak memory"] = binary_bytes(memory.peak_bytes) + several
    if record.flops:
        found["FLOPs a step"] = si(record.flops.step)
    found |= {
        "parameters": f"{record.model.parameters.total:,}",
        "protocol": f"{record.protocol.name} {record.protocol.sha256[:12]}",
        "data": record.task.dataset,
        "device": f"{record.device}, {record.precision}{', compiled' if record.compiled else ''}",
        "commit": _commit(record.provenance),
    }
    title = f"{label_of(record)} on {record.task.name}, seed {record.seed}"
    facts = tuple((name, text) for name, text in found.items() if text)
    return Entry(record.run_id, title, facts, command_of(record), key, file)


def _commit(provenance: Mapping[str, Any]) -> str:
    commit = str(provenance.get("commit") or "unknown")[:12]
    return f"{commit}, with changes" if provenance.get("dirty") else commit


def _names(board: Leaderboard, sessions: Sequence[Session]) -> list[str]:
    labels = [row.label for one in board.boards for row in one.rows]
    labels += [label for session in sessions for label in session.labels]
    return list(dict.fromkeys(_model_of(label) for label in labels))


def _cards(names: Iterable[str]) -> Iterable[Card]:
    known = {entry.name: entry for entry in registry.models}
    for name in names:
        entry = known.get(name)
        if entry is None:
            continue
        paper = entry.paper
        facts = [
            ("family", entry.family),
            ("core", entry.formula),
            ("time", entry.time),
            ("memory", entry.memory),
            ("differs from its paper", "; ".join(entry.deviations)),
            ("a score above it rules out", entry.rules_out),
            ("paper", f"{paper.title}, {paper.authors} ({paper.year})" if paper else ""),
        ]
        link = paper.link if paper and paper.link.startswith("https://") else ""
        shown = tuple((label, text) for label, text in facts if text)
        yield Card(_anchor(name), name, entry.summary, shown, link)


def _model_of(label: str) -> str:
    return label.partition(" (")[0]


def _anchor(label: str) -> str:
    """Of the model's card; only registered names have one, and they are plain words."""
    name = _model_of(label)
    return f"model-{name}" if name in {entry.name for entry in registry.models} else ""


def _order(text: str) -> float | str:
    """A leading number as a number, so that columns of ratios sort as such."""
    try:
        return float(text.split(" ", 1)[0].replace(",", ""))
    except ValueError:
        return text if text not in ("-", "") else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
