"""Locks between processes of one machine, on files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def held(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock at `path`; says so once if it has to wait. Ends with the process, however it ends.

    Where the system has no advisory locks, nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    told = True
                    on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _stands_at(file, path):
                continue  # its holder removed it: who came since has locked another file
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            return


def _stands_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
