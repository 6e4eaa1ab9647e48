"""Two sets of run records side by side: what `compare` shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from lra_bench.errors import UsageError
from lra_bench.latest import choose
from lra_bench.records import RunRecord
from lra_bench.regression.judgement import CELL, Finding, Verdict

Key = tuple[str, str, str, str]


def compare_records(before: Sequence[RunRecord], after: Sequence[RunRecord]) -> list[Finding]:
    """Findings by model, task, protocol and device, over the seeds of each side.

    Nothing here fails anything: two sets may differ in what was asked of them. Accuracies are `same` where
    the intervals of the test examples overlap; step times are of different sessions, and only shown.

    Raises:
        UsageError: the sets have no cell in common.
    """
    old, new = _by_cell(choose(before).records), _by_cell(choose(after).records)
    if not old.keys() & new.keys():
        raise UsageError(
            "The two sets have no cell in common: same model and options, task, protocol and device. "
            f"The first has {len(old)} cells, the second {len(new)}."
        )
    found: list[Finding] = []
    for key in dict.fromkeys((*old, *new)):
        model, task = key[0], key[1]
        if key not in new:
            found.append(Finding("exact", model, task, CELL, "vanished", note=_where(key)))
        elif key not in old:
            found.append(Finding("exact", model, task, CELL, "new", note=_where(key)))
        else:
            found += _cell(model, task, old[key], new[key])
    return found


def _by_cell(records: Sequence[RunRecord]) -> dict[Key, list[RunRecord]]:
    cells: dict[Key, list[RunRecord]] = {}
    for record in sorted(records, key=lambda one: (one.task.name, one.model.name, one.run_id)):
        overrides = ", ".join(f"{name}={value}" for name, value in sorted(record.protocol.overrides.items()))
        trials = record.protocol.tuning_trials
        tuned = f"tuned {trials}" if trials else ""
        protocol = " ".join(filter(None, (record.protocol.name, overrides, tuned)))
        cells.setdefault((record.model.label, record.task.name, protocol, record.device), []).append(record)
    return cells


def _where(key: Key) -> str:
    return f"{key[2]} on {key[3]}"


def _cell(model: str, task: str, old: list[RunRecord], new: list[RunRecord]) -> Iterator[Finding]:
    if {one.status for one in old} != {one.status for one in new}:
        was, now = (", ".join(sorted({one.status for one in side})) for side in (old, new))
        yield Finding("exact", model, task, "status", "changed", was, now)
    one, other = old[0], new[0]
    sizes = [("parameters", one.model.parameters.total, other.model.parameters.total)]
    if one.flops and other.flops:
        sizes.append(("FLOPs, step", one.flops.step, other.flops.step))
    was_memory, now_memory = one.comparable_peak_memory, other.comparable_peak_memory
    if was_memory and now_memory and was_memory.method == now_memory.method:
        sizes.append(("peak bytes, step", was_memory.peak_bytes, now_memory.peak_bytes))
    for metric, was_size, now_size in sizes:
        verdict: Verdict = "worse" if now_size > was_size else "better" if now_size < was_size else "same"
        yield Finding("exact", model, task, metric, verdict, was_size, now_size)
    for name in ("train", "test"):
        was_data, now_data = one.task.splits.get(name), other.task.splits.get(name)
        if was_data and now_data and was_data.sha256 != now_data.sha256:
            yield Finding(
                "exact", model, task, f"{name} data", "changed", was_data.sha256[:12], now_data.sha256[:12]
            )
    yield from _accuracy(model, task, old, new)
    was_time, now_time = one.comparable_step_time, other.comparable_step_time
    if was_time and now_time:
        yield Finding(
            "time",
            model,
            task,
            "step seconds",
            "not compared",
            was_time.median_s,
            now_time.median_s,
            "of two sessions: what changed may be the machine's load",
        )


def _accuracy(model: str, task: str, old: list[RunRecord], new: list[RunRecord]) -> Iterator[Finding]:
    sides = [[one.accuracy.best for one in side if one.accuracy] for side in (old, new)]
    if not all(sides):
        return
    bounds = [
        (fmean(one.interval[0] for one in side), fmean(one.interval[1] for one in side)) for side in sides
    ]
    (low_old, high_old), (low_new, high_new) = bounds
    verdict: Verdict = "worse" if high_new < low_old else "better" if low_new > high_old else "same"
    was, now = (fmean(one.accuracy for one in side) for side in sides)
    note = f"{len(sides[0])} and {len(sides[1])} seeds"
    yield Finding("learning", model, task, "accuracy", verdict, was, now, note)
