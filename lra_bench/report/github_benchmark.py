"""Results in the form that github-action-benchmark reads: `smaller.json` and `bigger.json`.

Each is for one of the action's tools, customSmallerIsBetter and customBiggerIsBetter: a JSON array of
objects with name, unit and value, and optionally range and extra. The action keeps the history of a name, so
a name has all that must be the same for two values to be compared, the device included.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench.files import write_atomically
from lra_bench.regression.history import History, point_of
from lra_bench.regression.judgement import Finding
from lra_bench.regression.observations import METRICS, SeriesKey, of_evidence
from lra_bench.report.bench_text import plain

if TYPE_CHECKING:
    from lra_bench.regression.check import Check

SMALLER, BIGGER = "smaller.json", "bigger.json"
GROUPS = ("parameters", "flops", "bytes", "time", "loss", "accuracy")
"""What has a direction and a number."""


@dataclass(frozen=True)
class Result:
    """One figure of the newest state."""

    name: str
    unit: str
    value: float
    bigger_is_better: bool
    spread: float | None = None
    extra: str = ""

    def entry(self) -> dict[str, Any]:
        """As the action reads it."""
        found: dict[str, Any] = {"name": plain(self.name), "unit": self.unit, "value": self.value}
        if self.spread is not None and math.isfinite(self.spread):
            found["range"] = f"± {self.spread:.6g}"
        if self.extra:
            found["extra"] = plain(self.extra)
        return found


def write_benchmarks(folder: Path, results: Iterable[Result]) -> list[Path]:
    """Writes both files, also where one has no entry; values that are not finite are no JSON and left out."""
    usable = [one for one in results if math.isfinite(one.value)]
    written = []
    for name, bigger in ((SMALLER, False), (BIGGER, True)):
        entries = [one.entry() for one in usable if one.bigger_is_better is bigger]
        written.append(folder / name)
        write_atomically(
            folder / name, json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
    return written


def results_of_history(history: History) -> Iterator[Result]:
    """What was measured at the last commit; a value of an older one would pass for the newest."""
    last = len(history.commits) - 1
    for one in history.series:
        point = one.points[-1]
        if point.place != last or one.key.group not in GROUPS or isinstance(point.value, str):
            continue
        extra = [f"commit {history.commits[last].label}"]
        extra += [f"mean of {point.count}"] if one.metric.noisy and point.count > 1 else []
        extra += [f"{name} {value}" for name, value in point.circumstances.items()]
        yield _result(one.key, point.value, point.spread, ", ".join(extra))


def results_of_check(check: Check) -> Iterator[Result]:
    """The candidate's exact values, accuracy and loss, and its step time relative to the baseline's."""
    extra = f"revision {check.after.revision}, torch {check.after.torch}, {check.after.processor}"
    for one in of_evidence(check.after):
        if one.key.group in GROUPS:
            point = point_of(one)
            assert not isinstance(point.value, str)
            yield _result(one.key, point.value, point.spread, extra)
    yield from (_timed(one, extra) for one in check.findings if one.kind == "time" and _number(one.after))


def _result(key: SeriesKey, value: float, spread: float | None, extra: str) -> Result:
    metric = METRICS[key.group]
    unit = metric.unit
    if key.group == "accuracy":
        value, spread, unit = 100 * value, spread and 100 * spread, "%"
    return Result(_name(key), unit, value, metric.worse == "less", spread, extra)


def _name(key: SeriesKey) -> str:
    return f"{key.model}, {key.task}: {key.metric} ({key.where})"


def _timed(finding: Finding, extra: str) -> Result:
    assert isinstance(finding.after, float | int)
    name = f"{finding.model}, {finding.task}: {finding.metric} (check, cpu, fp32)"
    spread = None if finding.low is None or finding.high is None else (finding.high - finding.low) / 2
    return Result(name, "x baseline", float(finding.after), False, spread, f"{finding.note}, {extra}")


def _number(value: float | str | None) -> bool:
    return isinstance(value, float | int)
