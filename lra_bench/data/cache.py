"""Where source data are read from and where prepared data go."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from lra_bench.data.task import Split, Task
from lra_bench.files import TEMPORARY_SUFFIX
from lra_bench.own_source import source_digest

DATA_VARIABLE = "LRA_BENCH_DATA"
CACHE_VARIABLE = "LRA_BENCH_CACHE"

STORAGE_VERSION = 1
"""Raised when the files of prepared data change their layout."""

_STALE_AFTER_S = 24 * 3600

_data_folder: ContextVar[Path | None] = ContextVar("data_folder", default=None)


def data_root() -> Path | None:
    """The folder with source data: that of `reading_from`, else LRA_BENCH_DATA, else None."""
    folder = _data_folder.get()
    if folder is not None:
        return folder
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser() if named else None


@contextlib.contextmanager
def reading_from(folder: Path | str | None) -> Iterator[None]:
    """Within the block, `data_root()` is `folder`; None leaves it as it is. Holds for this thread only."""
    token = _data_folder.set(Path(folder).expanduser() if folder is not None else _data_folder.get())
    try:
        yield
    finally:
        _data_folder.reset(token)


def cache_root() -> Path:
    """The folder for prepared data: LRA_BENCH_CACHE, else lra-bench in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "lra-bench"


def parameter_fingerprint(task: Task) -> str:
    """16 hex digits of everything that shapes a task's examples and how they lie in files."""
    described = {
        "dataset": task.spec.dataset,
        "generator_version": task.generator_version,
        "parameters": task.parameters(),
        "vocabulary": task.spec.vocabulary_sha256,
        "storage": [STORAGE_VERSION, task.shard_size],
    }
    if source := source_digest(task.code):
        described["source"] = source
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def split_folder(task: Task, split: Split, root: Path | None = None) -> Path:
    """`<root>/<task>/<variant>-<fingerprint of parameters>/<split>`"""
    variant = f"{task.spec.variant}-{parameter_fingerprint(task)}"
    return (root or cache_root()) / task.spec.task / variant / split


def remove_stale_temporaries(folder: Path) -> None:
    """Deletes what killed writers left in a folder more than a day ago; younger files may be in use."""
    limit_s = time.time() - _STALE_AFTER_S
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < limit_s:
                path.unlink()
