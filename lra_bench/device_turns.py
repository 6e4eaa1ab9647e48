"""A cell's turns on its device: alone while its step is timed, beside others in all other phases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from lra_bench.device_lock import GaveUpError, Shared, exclusive, shared
from lra_bench.measure.timing import synchronise
from lra_bench.train import StoppedError

WAITING = {"event": "phase", "phase": "wait for the device"}


class DeviceTurns:
    """Says what a cell does on its device to whoever else works on it; see `device_lock`.

    emit: told when it has to wait. should_stop: ends a wait; inside a turn StoppedError then follows.
    """

    def __init__(
        self, device: torch.device, emit: Callable[[Mapping[str, Any]], None], should_stop: Callable[[], bool]
    ) -> None:
        self.device = device
        self.emit = emit
        self.should_stop = should_stop
        self._shared: Shared | None = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """For timing: everybody else pauses."""
        with self._stopping(), exclusive(str(self.device), on_wait=self._wait, give_up=self.should_stop):
            yield

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """For everything else; `pause` is to be called between steps."""
        with (
            self._stopping(),
            shared(
                str(self.device),
                on_wait=self._wait,
                give_up=self.should_stop,
                settle=lambda: synchronise(self.device),
            ) as held,
        ):
            self._shared = held
            try:
                yield
            finally:
                self._shared = None

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """For a thread that prepares a shard of data, which is work of the processor."""
        with self._stopping(), shared("cpu", give_up=self.should_stop):
            yield

    def pause(self) -> float:
        """Between two steps: makes way for a measurement. Seconds that took, usually 0."""
        return self._shared.pause_if_asked() if self._shared is not None else 0.0

    def _wait(self) -> None:
        self.emit(WAITING)

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        except GaveUpError as error:
            raise StoppedError(str(error)) from None
