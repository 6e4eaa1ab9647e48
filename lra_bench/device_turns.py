"""A cell's turns on its device: alone while its step is timed, beside others in all other phases.

Of several processes on one machine the first holds the locks of all their devices, and the others follow it.
A cell over several machines holds none: a scheduler gives it those machines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from lra_bench.device_lock import GaveUpError, Shared, exclusive, shared
from lra_bench.distributed import Group
from lra_bench.measure.timing import synchronise
from lra_bench.train import StoppedError

WAITING = {"event": "phase", "phase": "wait for the device"}
RESUMED = {"event": "resumed"}
"""After a pause in the midst of a phase: a scoring has no event of its own before it ends."""


class DeviceTurns:
    """Says what a cell does on its device to whoever else works on it; see `device_lock`.

    All processes of a group enter a turn and pause at the same places.

    Args:
        emit: told when it has to wait.
        should_stop: ends a wait with StoppedError; one in `pause` ends without, as the caller will ask too.
    """

    def __init__(
        self,
        device: torch.device,
        emit: Callable[[Mapping[str, Any]], None],
        should_stop: Callable[[], bool],
        group: Group = Group(),  # noqa: B008 - plain and frozen
    ) -> None:
        self.device = device
        self.emit = emit
        self.should_stop = should_stop
        self.group = group
        self._shared: Shared | None = None
        held = group.is_first and group.one_machine
        several = device.type == "cuda" and group.size > 1
        names = [f"cuda:{number}" for number in range(group.size)] if several else [str(device)]
        self._devices = names if held else []

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """For timing: everybody else pauses."""
        with self._stopping(), exclusive(*self._devices, on_wait=self._wait, give_up=self.should_stop):
            self.group.meet()
            yield
            self.group.meet()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """For everything else; `pause` is to be called between steps."""
        turn = shared(*self._devices, on_wait=self._wait, give_up=self.should_stop, settle=self._settle)
        with self._stopping(), turn as held:
            self.group.meet()
            self._shared = held
            try:
                yield
            finally:
                self._shared = None
            self._settle()
            self.group.meet()

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """For a thread that prepares a shard of data, which is work of the processor."""
        with self._stopping(), shared("cpu", give_up=self.should_stop):
            yield

    def pause(self) -> float:
        """Between two steps: makes way for a measurement. Seconds that took, usually 0."""
        if self._shared is None or not self.group.one_machine:
            return 0.0
        (asked,) = self.group.numbers_of_first([float(self._shared.asked())])
        if not asked:
            return 0.0
        # An accelerator whose process waits for another in the midst of a step would not be idle.
        self._settle()
        self.group.meet()
        waited = self._shared.pause_if_asked()
        self.emit(RESUMED)
        return self.group.largest([waited])[0]

    def _settle(self) -> None:
        synchronise(self.device)

    def _wait(self) -> None:
        self.emit(WAITING)

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        except GaveUpError as error:
            raise StoppedError(str(error)) from None
