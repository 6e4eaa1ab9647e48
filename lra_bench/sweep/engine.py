"""The loop of a sweep: what is ready goes to the launcher, until every cell has its record.

Nothing is remembered between sweeps but what lies in the results folder, so that any number of them, on any
number of machines, and a later one, add up: a cell is done when a valid record with its hash is there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lra_bench.cell import Cell
from lra_bench.errors import LraBenchError, StorageError
from lra_bench.launch.claims import is_held
from lra_bench.launch.execute import FIRST_WAIT_S, LONGEST_WAIT_S, clear_up, is_settled
from lra_bench.launch.launcher import Launcher, Outcome, Work
from lra_bench.launch.standing import Standing, standing
from lra_bench.records import wall_seconds
from lra_bench.sweep.cells import Item
from lra_bench.sweep.tuning import choose, trials_folder, tuned_cell

POLL_S = 0.5
ELSEWHERE_EVERY_S = 5.0
"""Between two looks at cells that somebody else works on."""
SILENCE_S = 120.0
"""How long a launcher that was asked to stop may say nothing before the sweep leaves without it."""
DEATHS_IN_A_ROW = 5
"""Of a cell's worker, with no checkpoint in between, before the cell is given up."""

State = Literal["waiting", "running", "elsewhere", "done", "failed"]


@dataclass
class Entry:
    """A cell of a sweep and what has become of it."""

    item: Item
    cell: Cell
    state: State = "waiting"
    status: str = ""
    """Of its record, once it is done or has failed with one."""
    accuracy: float | None = None
    reason: str = ""
    """Why it is not `ok`."""
    took_s: float | None = None
    """Wall seconds of its last run, from its record or as watched here."""
    was_there: bool = False
    """Its record was there when the sweep began."""
    since: float = 0.0
    """When it was handed to the launcher; monotonic."""
    deaths: int = 0
    saved_ns: int = 0
    """When its last checkpoint was written, as of its last death."""
    needs: list[Entry] = field(default_factory=list, repr=False)
    """Controls and trials, which have to be settled before."""

    @property
    def is_settled(self) -> bool:
        return self.state in ("done", "failed")

    @property
    def is_ok(self) -> bool:
        return self.state == "done" and self.status == "ok"

    @property
    def record_path(self) -> Path:
        return self.cell.record_path(self.item.results)


@dataclass(frozen=True)
class Limits:
    """What every cell is held to; see `launcher.Work`."""

    threads: int | None = None
    time_limit_s: float | None = None
    memory_limit_bytes: int | None = None


@dataclass
class Sweep:
    """Runs items through a launcher.

    Args:
        command: as one would type it; records keep it.
        retry: whether cells that ended as `error` are run again.
        max_failures: stop after so many cells failed with an error.
        on_event: told of every change: `state` (with its entry), `storage`, `damaged`, `stopping`.
    """

    items: Sequence[Item]
    launcher: Launcher
    command: str = ""
    limits: Limits = Limits()
    retry: bool = False
    max_failures: int | None = None
    on_event: Callable[[Mapping[str, Any]], None] = lambda _: None
    entries: list[Entry] = field(init=False)
    stopped: str = ""
    """Why it ended before everything was settled; empty if it did not."""

    def __post_init__(self) -> None:
        self.entries = [Entry(item, item.cell) for item in self.items]
        by_key = {entry.item.key: entry for entry in self.entries}
        for entry in self.entries:
            item = entry.item
            controls = (Item(cell, item.results, "control") for cell in item.controls)
            trials = (Item(cell, trials_folder(item.results), "trial") for cell in item.trials)
            entry.needs = [by_key[needed.key] for needed in (*controls, *trials)]
        self._looked_elsewhere = 0.0

    @property
    def capacity(self) -> int:
        return self.launcher.capacity

    def run(self, stop: threading.Event) -> None:
        """Until every cell is settled, or `stop` is set, or too many have failed. What runs then is asked to
        save; the same sweep continues later.
        """
        self._patiently(self._look_around, stop)
        while not stop.is_set() and not self._too_many_failures():
            self._patiently(self._submit, stop)
            if all(entry.is_settled for entry in self.entries) and self._patiently(self._verify, stop):
                return
            if self._running():
                self._take(self.launcher.poll(POLL_S))
            else:
                stop.wait(POLL_S)
            self._patiently(self._look_elsewhere, stop)
        self.stopped = "interrupted" if stop.is_set() else f"{self.max_failures} cells failed"
        self.on_event({"event": "stopping", "why": self.stopped})
        self.launcher.stop()
        heard = time.monotonic()
        while self._running() and time.monotonic() - heard < SILENCE_S:
            outcomes = self.launcher.poll(POLL_S)
            heard = time.monotonic() if outcomes else heard
            self._take(outcomes)

    def _patiently(self, step: Callable[[], bool], stop: threading.Event) -> bool:
        """A step that reads and writes the results folder, tried until the folder lets it."""
        wait_s = FIRST_WAIT_S
        while not stop.is_set():
            try:
                return step()
            except StorageError as error:
                self.on_event({"event": "storage", "message": str(error), "wait_s": wait_s})
                stop.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        return False

    def _look_around(self) -> bool:
        """What is there already."""
        for entry in self.entries:
            if entry.is_settled or not self._prepare(entry):
                continue
            found = standing(entry.cell, entry.item.results)
            if is_settled(found, self.retry):
                entry.was_there = True
                self._settle(entry, found)
        return True

    def _submit(self) -> bool:
        room = self.capacity - self._running()
        for entry in self.entries:
            if room <= 0:
                break
            if entry.state != "waiting" or not self._prepare(entry):
                continue
            found = standing(entry.cell, entry.item.results)
            if is_settled(found, self.retry):
                self._settle(entry, found)
            elif is_held(entry.record_path):
                self._set(entry, "elsewhere")
            else:
                entry.since = time.monotonic()
                self._set(entry, "running")
                self.launcher.submit([self._work(entry)])
                room -= 1
        return True

    def _prepare(self, entry: Entry) -> bool:
        """Whether all that a cell needs is there; a tuned cell gets its learning rate and weight decay."""
        item = entry.item
        if not all(needed.is_settled for needed in entry.needs):
            return False
        if item.trials and not entry.cell.tuning_trials:
            try:
                chosen = choose(item.trials, item.results)
            except StorageError:
                raise
            except LraBenchError as error:
                entry.reason = str(error)
                self._set(entry, "failed")
                return False
            entry.cell = tuned_cell(item.cell, chosen, len(item.trials))
        return True

    def _work(self, entry: Entry) -> Work:
        return Work(
            entry.cell,
            entry.item.results,
            controls=entry.item.controls,
            command=self.command,
            retry=self.retry,
            **vars(self.limits),
        )

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            for entry in self.entries:
                if entry.state == "running" and entry.cell.run_id == outcome.run_id:
                    try:
                        self._absorb(entry, outcome)
                    except StorageError:  # its record can't be read now; `_submit` looks again
                        self._set(entry, "waiting")

    def _absorb(self, entry: Entry, outcome: Outcome) -> None:
        if outcome.state == "done":
            found = standing(entry.cell, entry.item.results)
            if found.record is None:  # gone again; `_submit` looks what to do
                self._set(entry, "waiting")
            else:
                self._settle(entry, found)
        elif outcome.state == "failed":
            entry.reason = outcome.message
            self._set(entry, "failed")
        elif outcome.state == "lost":
            self._count_death(entry, outcome.message)
        else:
            self._set(entry, "elsewhere" if outcome.state == "elsewhere" else "waiting")

    def _count_death(self, entry: Entry, message: str) -> None:
        """A worker that somebody killed is started again; one that always dies at the same place is not."""
        saved = _saved_ns(entry)
        entry.deaths = 1 if saved > entry.saved_ns else entry.deaths + 1
        entry.saved_ns = saved
        if entry.deaths >= DEATHS_IN_A_ROW:
            entry.reason = f"Given up after {entry.deaths} deaths in a row. {message}"
            self._set(entry, "failed")
        else:
            self.on_event({"event": "lost", "entry": entry, "message": message})
            self._set(entry, "waiting")

    def _settle(self, entry: Entry, found: Standing) -> None:
        record = found.record
        assert record is not None
        entry.status, entry.reason = record.status, record.reason or ""
        entry.accuracy = record.accuracy.best.accuracy if record.accuracy else None
        entry.took_s = wall_seconds(record)
        with contextlib.suppress(StorageError):
            clear_up(entry.cell, entry.item.results)
        self._set(entry, "failed" if found.kind == "error" else "done")

    def _look_elsewhere(self) -> bool:
        """Cells that others work on are done one day, or free again."""
        if time.monotonic() - self._looked_elsewhere > ELSEWHERE_EVERY_S:
            self._looked_elsewhere = time.monotonic()
            for entry in self.entries:
                if entry.state == "elsewhere" and not is_held(entry.record_path):
                    self._set(entry, "waiting")  # `_submit` sees whether it is done
        return True

    def _verify(self) -> bool:
        """At the end, once more: a record may have been damaged since it was written."""
        whole = True
        for entry in self.entries:
            if entry.state == "done" and standing(entry.cell, entry.item.results).kind != "finished":
                self._set(entry, "waiting")
                whole = False
        return whole

    def _running(self) -> int:
        return sum(entry.state == "running" for entry in self.entries)

    def _too_many_failures(self) -> bool:
        failed = sum(entry.state == "failed" and not entry.was_there for entry in self.entries)
        return self.max_failures is not None and failed >= self.max_failures

    def _set(self, entry: Entry, state: State) -> None:
        if entry.state != state:
            entry.state = state
            self.on_event({"event": "state", "entry": entry})


def _saved_ns(entry: Entry) -> int:
    try:
        return (entry.cell.partial_folder(entry.item.results) / "checkpoint.pt").stat().st_mtime_ns
    except OSError:
        return 0
