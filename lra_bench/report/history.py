"""Metrics over commits, for the terminal, CSV, JSON and JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
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
DIGEST = 8
"""Characters that are shown of one."""


def print_history(out: Console, history: History, *, everything: bool = False) -> None:
    """Change points with their commit ranges, then the series: those that changed, few ones, or all."""
    from rich.markup import escape

    from lra_bench.report.terminal import print_rows

    def show(table: Table) -> None:
        if table.rows:
            out.print(f"\n[bold]{escape(table.title)}[/]")
            print_rows(out, table.rows, wrapping=("model", "metric"))
            out.print(f"[dim]{escape(table.note)}[/]", soft_wrap=True)

    out.print(escape(extent(history)), soft_wrap=True)
    for note in history.notes:
        out.print(f"[yellow]{escape(plain(note))}[/]", soft_wrap=True)
    show(changes_table(history))
    show(changes_table(history, confirmed=False))
    listed = everything or len(history.series) <= FEW
    if listed:
        show(series_table(history))
    out.print(headline(history))
    if not listed:
        out.print(f"--all lists all {len(history.series)} series, --csv writes every point.")


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
    found = history.changes(confirmed=confirmed)
    noted = any(change.note for _, change in found)
    rows = [
        {
            "model": plain(one.key.model),
            "task": plain(one.key.task),
            "metric": one.key.metric,
            "commits": plain(history.range_of(one, change)),
            "before": _text(one, change.before),
            "after": _text(one, change.after),
            "change": _change(one, change),
            "points": f"{change.points_before} + {change.points_after}",
            "verdict": change.direction,
            **({"also changed": plain(change.note)} if noted else {}),
        }
        for one, change in found
    ]
    title = "Change points" if confirmed else "Possible, one point: the next will tell"
    return _with_settings(title, [one for one, _ in found], rows)


def series_table(history: History) -> Table:
    """One line each: how many points, from which commit to which, and the first and last value."""
    rows = [
        {
            "model": plain(one.key.model),
            "task": plain(one.key.task),
            "metric": one.key.metric,
            "points": str(len(one.points)),
            "commits": plain(_span(history, one)),
            "first": _text(one, one.points[0].value),
            "last": _text(one, one.points[-1].value),
        }
        for one in history.series
    ]
    return _with_settings("Series", list(history.series), rows)


def _with_settings(title: str, series: Sequence[Series], rows: list[dict[str, str]]) -> Table:
    """What is held fixed, once in the note; several of them by number, with a column that names it."""
    settings = list(dict.fromkeys(plain(one.key.where) for one in series))
    if len(settings) < 2:
        return Table(title, "".join(settings), rows)
    number = {setting: str(place) for place, setting in enumerate(settings, 1)}
    for row, one in zip(rows, series, strict=True):
        row["in"] = number[plain(one.key.where)]
    return Table(title, "\n".join(f"{number[setting]}: {setting}" for setting in settings), rows)


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
    size = _change(series, change)
    relative = "" if size == "-" else f" ({size})"
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


def _change(series: Series, change: Change) -> str:
    """Relative to before; of accuracies the difference in points."""
    if series.metric.absolute:
        assert not isinstance(change.before, str)
        assert not isinstance(change.after, str)
        return f"{100 * (change.after - change.before):+.1f} points"
    return change_text(change.relative)


def _span(history: History, series: Series) -> str:
    """'first..last', or the only one."""
    return "..".join(dict.fromkeys((history.label(series, 0), history.label(series, -1))))


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
