"""Of records that would count one thing twice, or mix two things under one name: those that stand for it.

Two runs of one seed are one seed, however many things each has measured. And a model that is somebody's own
goes by one name while its code changes; a line of a table is for one code.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from lra_bench.records import RunRecord


@dataclass
class Chosen:
    """What stands, in the order of the input, and what gives way to it."""

    records: list[RunRecord]
    older_code: list[RunRecord] = field(default_factory=list)
    """Of a model or task that is somebody's own, whose code was another then."""
    repeated: list[RunRecord] = field(default_factory=list)
    """Of a seed that another record has as well, with a score or more measurements."""


def choose(records: Sequence[RunRecord]) -> Chosen:
    """Within one board each name has the code that it was last run with, and each seed one record."""
    last: dict[Hashable, tuple[str, str]] = {}
    for record in records:
        for key, source in _sources(record):
            finished = str(record.provenance.get("finished") or "")
            last[key] = max(last.get(key, ("", "")), (finished, source))
    chosen = Chosen([])
    current: list[RunRecord] = []
    for record in records:
        stands = all(last[key][1] == source for key, source in _sources(record))
        (current if stands else chosen.older_code).append(record)
    best: dict[Hashable, RunRecord] = {}
    for record in current:
        key = _seed_key(record)
        best[key] = max(best.get(key, record), record, key=_tells)
    for record in current:
        (chosen.records if best[_seed_key(record)] is record else chosen.repeated).append(record)
    return chosen


def _board(record: RunRecord) -> tuple[Hashable, ...]:
    protocol = record.protocol
    changes = tuple(sorted((name, repr(value)) for name, value in protocol.overrides.items()))
    kind = (record.precision, record.compiled, protocol.tuning_trials)
    return record.device, protocol.name, protocol.sha256, changes, kind


def _sources(record: RunRecord) -> list[tuple[Hashable, str]]:
    board = _board(record)
    return [
        ((board, "model", record.model.name), record.model.source),
        ((board, "task", record.task.name), record.task.source),
    ]


def _seed_key(record: RunRecord) -> Hashable:
    test = record.task.splits.get("test")
    options = tuple(sorted((name, repr(value)) for name, value in record.model.options.items()))
    data = (record.task.name, record.task.variant, test.sha256 if test else "")
    return _board(record), record.model.label, options, data, record.seed


def _tells(record: RunRecord) -> tuple[bool, bool, int, str]:
    """The more, the greater; the id decides between equals, so that the order of files does not."""
    return record.accuracy is not None, record.status == "ok", len(record.metrics), record.run_id
