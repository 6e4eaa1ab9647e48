"""Errors that a user can act on, each with the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LraBenchError(Exception):
    """Base of all expected errors. The message says what was wrong, what was expected and what to do."""

    exit_code = 1


class CellFailedError(LraBenchError):
    """A cell ended as oom, timeout, diverged or error; its record is on disk."""

    exit_code = 1


class CrowdedError(LraBenchError):
    """A cell ran out of memory beside others. Whether it is too large only shows where it runs alone."""


class UsageError(LraBenchError):
    """Something the user named or set can't be."""

    exit_code = 2


class OptionError(UsageError, ValueError):
    """An option of a model or task has a value out of range."""


class DataError(LraBenchError):
    """Source data are missing or not what they should be."""

    exit_code = 5


class StorageError(DataError):
    """A file can't be written: the disk is full, or the folder closed. Worth another try later."""


def suggest(name: str, known: Iterable[str]) -> str:
    """'Did you mean a, b?' for the near misses of `name`, else the sorted list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [other for other in known if other not in near and name and (name in other or other in name)][:3]
    if near:
        return f"Did you mean {' or '.join(near[:4])}?"
    return f"Known: {', '.join(known)}." if known else "None is known."


def require(condition: bool, option: str, value: object, expected: str) -> None:
    """Raises OptionError for `option` unless `condition` holds; for range checks in constructors."""
    if not condition:
        raise OptionError(f"{option}={value!r} is out of range: expected {expected}.")
