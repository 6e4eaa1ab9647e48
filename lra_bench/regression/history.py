"""Metrics over commits: series from records, measuring sessions, evidence, and a repository's past files."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lra_bench.errors import DataError
from lra_bench.regression.change_points import exact_steps, noisy_steps
from lra_bench.regression.commits import DIRTY, Commit, Repository, order_commits
from lra_bench.regression.observations import METRICS, Metric, Observation, SeriesKey, finite
from lra_bench.regression.sources import filtered, groups_of, of_past, of_source

Direction = Literal["worse", "better", "changed"]
MIN_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Point:
    """A series at one commit."""

    place: int
    """Of its commit in the order of all."""
    value: float | str
    """The mean over seeds and sessions; of what is exact, the latest."""
    spread: float | None
    """Standard deviation of several values; of one, half its own interval, where it has one."""
    count: int
    """Values that it is made of."""
    circumstances: dict[str, str]


@dataclass(frozen=True)
class Change:
    """A new level of a series."""

    index: int
    """Of the first point of the new level."""
    before: float | str
    after: float | str
    """Median of the level."""
    direction: Direction
    points_before: int
    points_after: int
    confirmed: bool
    """False: the last point alone is off, which is no change point yet."""
    note: str
    """What else changed between the two points."""

    @property
    def relative(self) -> float | None:
        """None where there is none."""
        if isinstance(self.before, str) or isinstance(self.after, str) or not self.before:
            return None
        return self.after / self.before - 1


@dataclass(frozen=True)
class Series:
    """One metric of one cell over commits."""

    key: SeriesKey
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    """In order; one that is not confirmed comes last."""

    @property
    def metric(self) -> Metric:
        return METRICS[self.key.group]

    def level_at(self, index: int) -> float | str:
        """What the series was around a point: the median of its level, or the point itself."""
        starts = [0, *(change.index for change in self.changes if change.confirmed), len(self.points)]
        low = max(start for start in starts[:-1] if start <= index)
        values = [point.value for point in self.points[low : starts[starts.index(low) + 1]]]
        return _middle(values) if self.metric.noisy else values[0]


@dataclass(frozen=True)
class History:
    """All series, and the commits they are of."""

    commits: tuple[Commit, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...]
    """What a reader has to know of the order and of what was left out."""

    def label(self, series: Series, index: int) -> str:
        """The commit of a point."""
        return self.commits[series.points[index].place].label

    def range_of(self, series: Series, change: Change) -> str:
        """'good..bad': the last commit measured at the old level, the first at the new one."""
        return f"{self.label(series, change.index - 1)}..{self.label(series, change.index)}"

    def changes(self, *, confirmed: bool = True) -> list[tuple[Series, Change]]:
        return [
            (one, change) for one in self.series for change in one.changes if change.confirmed == confirmed
        ]


def history(
    sources: Sequence[Path],
    *,
    past: Sequence[Path] = (),
    repository: Path = Path("."),
    models: Sequence[str] = (),
    tasks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    min_change: float | None = None,
) -> History:
    """Series of metrics over commits, with their change points.

    Args:
        sources: folders of results, records, evidence.
        past: files or folders of `repository` at every commit that changed them. What was measured at a
            commit with changes, or at one that is not known, stands at the commit that brought the file.
        models, tasks, metrics: names or globs; all by default. Metrics are the names of `METRICS`.
        min_change: least change of times and losses, as a share, and of accuracies, as a difference, that
            is a change point; by default that of `METRICS`.

    Raises:
        UsageError: a path that is not there, no repository for `past`, or a filter that fits nothing.
        DataError: a damaged file, or nothing to read.
    """
    groups = groups_of(metrics)
    place = Repository(repository)
    notes: list[str] = []
    found = [one for source in sources for one in of_source(source)]
    for path in past:
        found += of_past(path, place, notes)
    if not found:
        named = ", ".join(map(str, (*sources, *past)))
        raise DataError(
            f"{named}: no records in it. Name a folder of results (it has `runs` or `bench`), a record, "
            "or a file that `lra-bench check --write-baseline` has written."
        )
    chosen = filtered(found, models, tasks, groups)
    endless = [one for one in chosen if not finite(one)]
    if endless:
        notes.append(f"{len(endless)} values are not finite and left out.")
    if len(endless) == len(chosen):
        raise DataError("None of the chosen values is finite: there is nothing to line up.")
    if place.shallow:
        notes.append("The repository is a shallow clone: older commits are not known.")
    commits, series = _lined_up([one for one in chosen if finite(one)], place, notes)
    judged = [_judged(key, points, min_change) for key, points in sorted(series.items(), key=_order)]
    return History(tuple(commits), tuple(judged), tuple(notes))


def _order(item: tuple[SeriesKey, list[Point]]) -> tuple[int, SeriesKey]:
    return list(METRICS).index(item[0].group), item[0]


def _lined_up(
    found: Sequence[Observation], repository: Repository, notes: list[str]
) -> tuple[list[Commit], dict[SeriesKey, list[Point]]]:
    """Points of each series in the order of commits."""
    bare = {one.commit.removesuffix(DIRTY) for one in found if one.commit}
    full = repository.resolve(bare)

    def identity(one: Observation) -> str:
        if one.commit is None:
            return f"no commit, {one.date:%Y-%m-%d}" if one.date else "no commit"
        name = one.commit.removesuffix(DIRTY)
        return full.get(name, name) + one.commit[len(name) :]

    seen: dict[str, datetime | None] = {}
    # The same observation may be met twice: in a folder, and in what the repository has of it.
    unique: dict[tuple[SeriesKey, str, str], Observation] = {}
    for one in found:
        commit = identity(one)
        earlier = seen.get(commit)
        seen[commit] = min(earlier, one.date) if earlier and one.date else earlier or one.date
        unique[one.key, commit, one.origin] = one
    commits = order_commits(seen, repository)
    _tell(commits, notes)
    places = {commit.id: place for place, commit in enumerate(commits)}
    grouped: dict[SeriesKey, dict[int, list[Observation]]] = {}
    for (key, commit, _), one in unique.items():
        grouped.setdefault(key, {}).setdefault(places[commit], []).append(one)
    differing: Counter[str] = Counter()
    series: dict[SeriesKey, list[Point]] = {}
    for key, by_place in grouped.items():
        series[key] = [_point(key, place, by_place[place], differing) for place in sorted(by_place)]
    notes += [
        f"{count} times a commit has several values of {group}; the latest counts."
        for group, count in differing.items()
    ]
    return commits, series


def _tell(commits: Iterable[Commit], notes: list[str]) -> None:
    strangers = [commit for commit in commits if not commit.known]
    if strangers:
        undated = sum(commit.date is None for commit in strangers)
        without = f"; {undated} without a date stand last" if undated else ""
        names = ", ".join(commit.label for commit in strangers[:5]) + (" ..." if len(strangers) > 5 else "")
        notes.append(
            f"{len(strangers)} commits are not in the repository and stand by the date of their "
            f"measurement{without}: {names}."
        )
    dirty = sum(commit.id.endswith(DIRTY) for commit in commits)
    if dirty:
        notes.append(f"{dirty} states are a commit with changes that are in none (marked {DIRTY}).")


def _point(key: SeriesKey, place: int, found: Sequence[Observation], differing: Counter[str]) -> Point:
    latest = max(reversed(found), key=lambda one: one.date or MIN_TIME)
    values = [value for one in found for value in one.values]
    around = dict(latest.circumstances)
    numbers = [value for value in values if not isinstance(value, str)]
    if METRICS[key.group].noisy and numbers:
        spread = statistics.stdev(numbers) if len(numbers) > 1 else latest.half_width
        return Point(place, statistics.fmean(numbers), spread, len(numbers), around)
    if key.group == "status":  # an end that differs between seeds hides none of them
        return Point(place, ", ".join(sorted({str(value) for value in values})), None, len(values), around)
    if exact_steps(values, METRICS[key.group].tolerance):
        differing[key.group] += 1
    return Point(place, latest.values[-1], None, len(values), around)


def point_of(observation: Observation, place: int = 0) -> Point:
    """One source's values alone."""
    return _point(observation.key, place, [observation], Counter())


def _judged(key: SeriesKey, points: Sequence[Point], min_change: float | None) -> Series:
    metric = METRICS[key.group]
    possible = False
    if metric.noisy:
        numbers = [float(point.value) for point in points]
        steps, possible = _noisy(numbers, metric, metric.min_change if min_change is None else min_change)
    else:
        steps = exact_steps([point.value for point in points], metric.tolerance)
    edges = [0, *steps, *([len(points) - 1] if possible else []), len(points)]
    changes = []
    for place in range(1, len(edges) - 1):
        old, new = points[edges[place - 1] : edges[place]], points[edges[place] : edges[place + 1]]
        before, after = (
            _middle([point.value for point in side]) if metric.noisy else side[0].value for side in (old, new)
        )
        changes.append(
            Change(
                edges[place],
                before,
                after,
                _direction(metric, before, after),
                len(old),
                len(new),
                confirmed=not (possible and place == len(edges) - 2),
                note=_around(old[-1], new[0]),
            )
        )
    return Series(key, tuple(points), tuple(changes))


def _noisy(values: Sequence[float], metric: Metric, min_change: float) -> tuple[list[int], bool]:
    """Steps on the scale on which noise is alike at all levels: that of logarithms, for what scales."""
    if metric.absolute:
        return noisy_steps(values, min_change)
    if min(values) > 0:
        return noisy_steps([math.log(value) for value in values], math.log1p(min_change))
    scale = statistics.median(map(abs, values)) or 1.0
    return noisy_steps([value / scale for value in values], min_change)


def _middle(values: Sequence[float | str]) -> float | str:
    return values[0] if isinstance(values[0], str) else statistics.median(float(value) for value in values)


def _direction(metric: Metric, before: float | str, after: float | str) -> Direction:
    if metric.worse == "neither":
        return "changed"
    if isinstance(before, str) or isinstance(after, str):  # a status
        return "worse" if before == "ok" else "better" if after == "ok" else "changed"
    return "worse" if (after > before) == (metric.worse == "more") else "better"


def _around(old: Point, new: Point) -> str:
    """'torch 2.12.0 -> 2.13.0', where that changed as well."""
    names = [name for name in old.circumstances if name in new.circumstances]
    return "; ".join(
        f"{name} {old.circumstances[name]} -> {new.circumstances[name]}"
        for name in names
        if old.circumstances[name] != new.circumstances[name]
    )
