"""Ends a child process that was asked to stop, or whose time is up."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

STOP_GRACE_S = 60.0
"""How long a child may take to write its checkpoint after it was asked to stop."""
LOOK_EVERY_S = 0.1


class Watch:
    """Looks after a child from a thread of its own. Use as a context, and tell it the child's events.

    Args:
        should_stop: asked ten times a second; at True the child is asked to save and end, later killed.
        time_limit_s: wall seconds, after which the child is killed. Waiting for others does not count.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], should_stop: Callable[[], bool], time_limit_s: float | None
    ) -> None:
        self.stopped = False
        self.timed_out = False
        self._child = child
        self._should_stop = should_stop
        self._limit_s = time_limit_s
        self._waiting = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def note(self, event: Mapping[str, Any]) -> None:
        """An event of the child's. After one that says it waits, it does until the next."""
        self._waiting = event["event"] == "phase" and event["phase"].startswith("wait")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        worked_s = 0.0
        asked_at: float | None = None
        before = time.monotonic()
        while not self._ended.wait(LOOK_EVERY_S):
            now = time.monotonic()
            if not self._waiting:
                worked_s += now - before
            before = now
            if asked_at is not None:
                if now - asked_at > STOP_GRACE_S:
                    self._child.kill()
            elif self._should_stop():
                self.stopped = True
                asked_at = now
                self._child.terminate()
            elif self._limit_s is not None and worked_s > self._limit_s:
                self.timed_out = True
                self._child.kill()
                return
