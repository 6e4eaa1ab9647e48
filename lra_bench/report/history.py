"""Metrics over commits, for the terminal, CSV, JSON and JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lra_bench.regression.history import Change, History, Series
from lra_bench.regression.observations import OF_ALL
from lra_bench.report.bench_text import plain
from lra_bench.report.numbers import change_text, metric_text
from lra_bench.report.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

FEW = 30
"""Series that are listed without being asked for."""
DIGEST = 12
"""Characters that are shown of one."""


def print_history(out: Console, history: History, *, everything: bool = False) -> None:
    """Change points with their commit ranges, then the series: those that changed, few ones, or all."""
    from rich.markup import escape

    from lra_bench.report.terminal import print_rows

    def show(table: Table) -> None:
        if table.rows:
            out.print(f"\n[bold]{escape(table.title)}[/]")
            print_rows(out, [{name: escape(text) for name, text in row.items()} for row in table.rows])

    out.print(escape(extent(history)), soft_wrap=True)
    for note in history.notes:
        out.print(f"[yellow]{escape(plain(note))}[/]", soft_wrap=True)
    show(changes_table(history))
    show(changes_table(history, confirmed=False))
    shown = [one for one in history.series if everything or one.changes or len(history.series) <= FEW]
    show(series_table(history, shown))
    hidden = len(history.series) - len(shown)
    out.print(headline(history))
    if hidden:
        out.print(f"{hidden} series without a change are not listed; --all lists them, --csv writes them.")


def extent(history: History) -> str:
    """How much there is, from which commit to which."""
    points = sum(len(one.points) for one in history.series)
    over = f"{_counted(len(history.series), 'series', 'series')}, {_counted(points, 'point')}"
    first, last = history.commits[0], history.commits[-1]
    if len(history.commits) == 1:
        return f"{over}, one commit: {plain(first.label)}."
    return f"{over}, {len(history.commits)} commits from {plain(first.label)} to {plain(last.label)}."


def headline(history: History) -> str:
    """One sentence."""
    if len(history.commits) == 1:
        return "One commit shows no change: a change point needs one before it."
    found = [change.direction for _, change in history.changes()]
    if not found:
        return "No change point."
    parts = [f"{found.count(word)} {word}" for word in ("worse", "better", "changed") if word in found]
    return f"{_counted(len(found), 'change point')}: {', '.join(parts)}."


def changes_table(history: History, *, confirmed: bool = True) -> Table:
    """One line each, with the last commit of the old level and the first of the new one."""
    rows = [
        {
            "model": plain(one.key.model),
            "task": plain(one.key.task),
            "metric": one.key.metric,
            "commits": plain(history.range_of(one, change)),
            "before": _text(one, change.before),
            "after": _text(one, change.after),
            "change": change_text(change.relative),
            "": change.direction,
            "points": f"{change.points_before} + {change.points_after}",
            "where": plain("; ".join(filter(None, (one.key.where, change.note)))),
        }
        for one, change in history.changes(confirmed=confirmed)
    ]
    title = "Change points" if confirmed else "Possible, one point: the next will tell"
    return Table(title, "", rows)


def series_table(history: History, series: Iterable[Series]) -> Table:
    """One line each: first and last value, and how often the level changed."""
    rows = [
        {
            "model": plain(one.key.model),
            "task": plain(one.key.task),
            "metric": one.key.metric,
            "points": str(len(one.points)),
            "first": f"{_text(one, one.points[0].value)} ({plain(history.label(one, 0))})",
            "last": f"{_text(one, one.points[-1].value)} ({plain(history.label(one, -1))})",
            "changes": str(sum(change.confirmed for change in one.changes)),
            "where": plain(one.key.where),
        }
        for one in series
    ]
    return Table("Series", "", rows)


def history_frame(history: History) -> pd.DataFrame:
    """One row for each point of each series; unknown things are missing."""
    import pandas as pd

    return pd.DataFrame([row for one in history.series for row in _rows(history, one)])


def history_csv(history: History) -> str:
    """`history_frame` with every digit: exact counts stay exact."""
    return str(history_frame(history).to_csv(index=False, lineterminator="\n"))


def _rows(history: History, series: Series) -> Iterator[dict[str, Any]]:
    changes = {change.index: change for change in series.changes}
    for index, point in enumerate(series.points):
        commit, change = history.commits[point.place], changes.get(index)
        yield {
            **_key(series),
            "unit": series.metric.unit,
            "commit": commit.id,
            "commit_known": commit.known,
            "commit_place": point.place,
            "date": commit.date and commit.date.isoformat(),
            "value": point.value,
            "spread": point.spread,
            "values": point.count,
            "level": series.level_at(index),
            "change": None if change is None else change.direction,
            "change_relative": None if change is None else change.relative,
            "change_confirmed": None if change is None else change.confirmed,
            "commits": None if change is None else history.range_of(series, change),
            "note": change.note if change and change.note else None,
        }


def history_json(history: History) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "commits": [
            {"id": one.id, "date": one.date and one.date.isoformat(), "known": one.known}
            for one in history.commits
        ],
        "notes": list(history.notes),
        "series": [
            {
                **_key(one),
                "unit": one.metric.unit,
                "points": [
                    {
                        "commit": history.commits[point.place].id,
                        "value": point.value,
                        "spread": point.spread,
                        "values": point.count,
                    }
                    for point in one.points
                ],
                "changes": [_change_json(history, one, change) for change in one.changes],
            }
            for one in history.series
        ],
    }


def _change_json(history: History, series: Series, change: Change) -> dict[str, Any]:
    good, bad = (history.commits[series.points[index].place].id for index in (change.index - 1, change.index))
    return {
        "good": good,
        "bad": bad,
        "before": change.before,
        "after": change.after,
        "relative": change.relative,
        "direction": change.direction,
        "points_before": change.points_before,
        "points_after": change.points_after,
        "confirmed": change.confirmed,
        "note": change.note,
    }


def history_junit(history: History) -> str:
    """A test case for each series, its figures as properties; a change point for the worse is a failure."""
    worse = {
        id(one): [change for change in one.changes if change.confirmed and change.direction == "worse"]
        for one in history.series
    }
    suite = ET.Element(
        "testsuite",
        name="lra-bench history",
        tests=str(len(history.series)),
        failures=str(sum(1 for found in worse.values() if found)),
        skipped="0",
        errors="0",
    )
    for one in history.series:
        name = plain(f"{one.key.metric} ({one.key.where})")
        case = ET.SubElement(suite, "testcase", classname=plain(f"{one.key.model}.{one.key.task}"), name=name)
        properties = ET.SubElement(case, "properties")
        for label, value in _properties(history, one).items():
            ET.SubElement(properties, "property", name=label, value=plain(str(value)))
        if worse[id(one)]:
            text = "; ".join(_sentence(history, one, change) for change in worse[id(one)])
            ET.SubElement(case, "failure", message=text)
        others = [change for change in one.changes if change not in worse[id(one)]]
        if others:
            text = "; ".join(_sentence(history, one, change) for change in others)
            ET.SubElement(case, "system-out").text = text
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _properties(history: History, series: Series) -> dict[str, Any]:
    last = series.points[-1]
    found = {
        "value": last.value,
        "unit": series.metric.unit,
        "spread": last.spread,
        "commit": history.commits[last.place].id,
        "points": len(series.points),
        "level": series.level_at(len(series.points) - 1),
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def _sentence(history: History, series: Series, change: Change) -> str:
    """One change in words."""
    doubt = "" if change.confirmed else "possible, one point: "
    said = f"{doubt}{change.direction} in {history.range_of(series, change)}"
    values = f"{_text(series, change.before)} before, {_text(series, change.after)} after"
    relative = f" ({change_text(change.relative)})" if change.relative is not None else ""
    note = f", {change.note}" if change.note else ""
    points = f"{change.points_before} points before, {change.points_after} after"
    return plain(f"{said}: {values}{relative}, {points}{note}")


def _key(series: Series) -> dict[str, Any]:
    key = series.key
    return {
        "model": key.model,
        "task": key.task,
        "group": key.group,
        "metric": key.metric,
        "setting": key.setting,
        "device": key.device,
        "precision": None if key.precision == OF_ALL else key.precision,
        "compiled": key.compiled,
    }


def _text(series: Series, value: float | str) -> str:
    if series.key.group == "digests":
        return plain(str(value))[:DIGEST]
    return metric_text(series.key.metric, value)


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
