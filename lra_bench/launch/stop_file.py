"""A file that asks everything that runs to save and end: all it takes is a shared folder."""

from __future__ import annotations

import contextlib
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

LOOK_EVERY_S = 2.0
"""A network file system may add what it keeps names in memory for, up to a minute."""


def stop_file(results: Path) -> Path:
    """A name that no other sweep has."""
    return results / f".sweep-{uuid.uuid4().hex[:12]}.stop"


class StopFileWatch:
    """Sets `stop` when the file appears. Use as a context; it looks from a thread of its own."""

    def __init__(self, path: Path, stop: threading.Event) -> None:
        self._path = path
        self._stop = stop
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="stop file", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # a server that is away: the next time will tell
                if self._path.exists():
                    self._stop.set()
                    return
            if self._ended.wait(LOOK_EVERY_S):
                return
