"""Where observations come from: files and folders, and what a repository had of them at every commit."""

from __future__ import annotations

import fnmatch
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lra_bench.bench.records import read_session
from lra_bench.errors import DataError, UsageError, suggest
from lra_bench.record_store import read_record
from lra_bench.records import PARTIAL_SUFFIX
from lra_bench.regression.commits import DIRTY, Repository, short
from lra_bench.regression.evidence import read_evidence
from lra_bench.regression.git_files import SESSION, versions
from lra_bench.regression.observations import METRICS, Observation, of_evidence, of_record, of_session


def groups_of(asked: Sequence[str]) -> list[str]:
    """Names of `METRICS` from names and globs; all where none is asked for. Raises UsageError for others."""
    chosen: list[str] = []
    for pattern in asked:
        fitting = fnmatch.filter(METRICS, pattern)
        if not fitting:
            raise UsageError(f"--metric {pattern!r}: no such metric. {suggest(pattern, METRICS)}")
        chosen += fitting
    return chosen or list(METRICS)


def of_source(source: Path) -> Iterator[Observation]:
    """A folder's or a file's.

    Raises:
        UsageError: there is none.
        DataError: a file is damaged, or the one that was named is something else.
    """
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder. Name a folder of results, a record or evidence.")
    if source.is_file():
        yield from _read([source], named=True)
        return
    files = (path for path in source.rglob("*.json") if path.is_file())
    yield from _read(sorted(path for path in files if path.parent.suffix != PARTIAL_SUFFIX))


def _read(files: Sequence[Path], *, named: bool = False) -> Iterator[Observation]:
    """Observations of records, sessions and evidence among files; in a folder others are passed over."""
    sessions = {path.parent for path in files if path.name == SESSION}
    for path in files:
        if path.parent in sessions and path.name == SESSION:
            yield from of_session(read_session(path.parent))
            continue
        if path.parent.parent in sessions:
            continue  # a cell of one
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not JSON ({error}). Move it away, or repair it.") from None
        keys = content.keys() if isinstance(content, dict) else set()
        if "run_id" in keys:
            yield from of_record(read_record(path))
        elif {"revision", "cells"} <= keys:
            yield from of_evidence(read_evidence(path))
        elif named:
            raise DataError(
                f"{path}: neither a run record nor evidence of `check --write-baseline`. "
                "Of a measuring session, name the folder or its session.json."
            )


def of_past(path: Path, repository: Repository, notes: list[str]) -> list[Observation]:
    """Those of a path at every commit that changed it, with the commit they stand at.

    That is the measured one where the repository knows it and it had no changes, else the one that brought
    the file. `notes` collects what could not be read. Raises as `versions` does, and DataError where nothing
    could be read.
    """
    found: list[Observation] = []
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        brought: list[tuple[str, Observation]] = []
        for version in versions(path, repository, Path(folder)):
            try:
                brought += [
                    (version.commit, one) for one in _read(version.files, named=len(version.files) == 1)
                ]
            except DataError as error:
                # What is committed can't be mended; one old file must not hide all others.
                faults.append(str(error).replace(f"{version.root}/", f"{short(version.commit)}:"))
    if faults:
        notes.append(f"--git {path}: {len(faults)} commits have files that can't be read; first {faults[0]}")
        if not brought:
            raise DataError(notes[-1])
    measured = [one.commit for _, one in brought if one.commit]
    known = repository.resolve(commit for commit in measured if not commit.endswith(DIRTY))
    for commit, one in brought:
        found.append(one if one.commit in known else replace(one, commit=commit))
    return found


def filtered(
    found: Sequence[Observation], models: Sequence[str], tasks: Sequence[str], groups: Sequence[str]
) -> list[Observation]:
    """Those that fit all three. Raises UsageError where none does."""
    chosen = [
        one
        for one in found
        if one.key.group in groups
        and _fits(models, one.key.model, one.key.model.partition(" (")[0])
        and _fits(tasks, one.key.task)
    ]
    if not chosen:
        there = "; ".join(
            f"{name}: {', '.join(sorted(values))}"
            for name, values in (
                ("models", {one.key.model for one in found}),
                ("tasks", {one.key.task for one in found}),
                ("metrics", {one.key.group for one in found}),
            )
        )
        raise UsageError(f"Nothing fits --models, --tasks and --metric together. There are {there}.")
    return chosen


def _fits(patterns: Sequence[str], *names: str) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, one) for one in patterns for name in names)
