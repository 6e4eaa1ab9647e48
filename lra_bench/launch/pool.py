"""The local launcher: several cells at a time on this machine, each in a child process of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from lra_bench.launch.execute import execute
from lra_bench.launch.launcher import Outcome, Work
from lra_bench.launch.local import Event
from lra_bench.measure.machine import available_cores


class _Room:
    """Where several are together, or one is alone. Who waits to be alone goes before who comes after."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._want_to_be_alone = 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._want_to_be_alone == 0)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._want_to_be_alone += 1
            self._changed.wait_for(lambda: self._inside == 0)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._want_to_be_alone -= 1
                self._changed.notify_all()


class LocalPool:
    """A `launcher.Launcher` of threads that each wait for a child process.

    A cell that runs out of memory beside others is run again alone, so that what it ends as does not depend
    on its neighbours.

    Args:
        workers: cells at a time. They share the cores unless the work says how many threads it has, and
            where there are several CUDA devices each worker has one.
        on_event: gets the run id and the event of what runs; called from several threads.
    """

    def __init__(self, workers: int = 1, on_event: Callable[[str, Event], None] = lambda *_: None) -> None:
        self.capacity = workers
        self._on_event = on_event
        self._stop = threading.Event()
        self._room = _Room()
        self._waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"cell worker {number}", daemon=True)
            for number in range(workers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, work: Sequence[Work]) -> None:
        for one in work:
            self._waiting.put(one)

    def poll(self, timeout_s: float) -> list[Outcome]:
        try:
            outcomes = [self._ended.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._ended.empty():
            outcomes.append(self._ended.get())
        return outcomes

    def stop(self) -> None:
        self._stop.set()

    def _serve(self, number: int) -> None:
        while (work := self._waiting.get()) is not None:
            run_id = work.cell.run_id

            def on_event(event: Event, run_id: str = run_id) -> None:
                self._on_event(run_id, event)

            placed = self._placed(work, number)
            if self.capacity > 1:
                with self._room.together():
                    outcome = execute(placed, self._stop, on_event, alone=False)
            if self.capacity == 1 or outcome.state == "crowded":
                with self._room.alone():
                    outcome = execute(placed, self._stop, on_event)
            self._ended.put(outcome)

    def _placed(self, work: Work, number: int) -> Work:
        """With its share of the machine."""
        threads = work.threads or max(1, available_cores() // self.capacity)
        cell = work.cell
        if cell.device == "cuda":
            import torch

            cell = replace(cell, device=f"cuda:{number % torch.cuda.device_count()}")
        return replace(work, cell=cell, threads=threads)
