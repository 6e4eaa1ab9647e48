"""Runs a measuring session: group after group, every finished cell on disk, and on from there if stopped."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lra_bench.bench.group import GroupRun
from lra_bench.bench.plan import BenchCell, Plan
from lra_bench.bench.records import (
    SCHEMA,
    Session,
    SessionRecord,
    read_cell,
    read_session,
    session_folders,
    write_cell,
    write_session,
)
from lra_bench.device_lock import exclusive
from lra_bench.files import write_atomically
from lra_bench.launch.allocator import allocator_environment
from lra_bench.launch.fork_server import ForkServer
from lra_bench.launch.local import InterruptedRunError
from lra_bench.measure.environment import describe_environment, describe_provenance
from lra_bench.records import Status

PRELOAD = ("lra_bench.bench.child",)
TOKENS_OF_OVERHEAD = 8192
"""For the time left: what starting and counting cost a cell, as if it were so many more tokens of a batch."""

Event = Mapping[str, Any]


def run_session(
    plan: Plan,
    results: str | Path = "results",
    *,
    new: bool = False,
    command: str = "",
    on_event: Callable[[Event], None] = lambda _: None,
) -> Session:
    """Measures what is missing of a session and returns it whole.

    The same plan on the same machine and source continues the session that was interrupted; a complete one is
    returned as it is, unless `new`.

    Raises:
        InterruptedRunError: stopped by a signal; finished groups are kept, and of the others what was
            measured apart from time.
        DataError: a record there is damaged, or the folder can't be written.
    """
    root = Path(results) / "bench" / plan.device_slug
    folder = None if new else _latest(Path(results), plan)
    if folder is None:
        folder = root / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{plan.sha256[:8]}"
        write_session(folder, _session_record(plan, folder.name, command))
    elif read_session(folder).record.complete:
        on_event({"event": "finished", "session": folder.name})
        return read_session(folder)
    try:
        waiting = {"event": "wait"}
        # Two sessions at once would measure each other, and cells that train both.
        with _terminate_like_interrupt(), exclusive(plan.device, on_wait=lambda: on_event(waiting)):
            if not read_session(folder).record.complete:  # whom we waited for may have done it
                _Runner(plan, folder, on_event).run()
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"Stopped. What is done is kept in {folder}; the same command continues from there."
        ) from None
    return read_session(folder)


class _Runner:
    def __init__(self, plan: Plan, folder: Path, on_event: Callable[[Event], None]) -> None:
        self.plan = plan
        self.folder = folder
        self.session = folder.name
        self.on_event = on_event
        self.partial = folder / "partial"
        self.wall_time = folder / "wall_s.json"
        self.run_started = self.counted_from = time.monotonic()
        self.ended_before: dict[tuple[str, bool], tuple[Status, str]] = {}
        self.total = sum(len(group) for group in plan.groups)
        self.done = 0
        self.weight_done = self.weight_total = 0.0
        """Of the groups of this run, in tokens."""
        self.ends_at: float | None = None
        """Expected, on the monotonic clock; None before the first group is done."""

    def run(self) -> None:
        pending = []
        for group in self.plan.groups:
            missing = [cell for cell in group if not self._path(cell).exists()]
            self._recall([cell for cell in group if cell not in missing])
            if any(cell.role == "cell" for cell in missing):
                # Ratios are within a round, so the reference has to be measured with them.
                missing = [group[0], *(cell for cell in missing if cell.role == "cell")]
            elif missing:
                missing = group
            if missing:
                pending.append(missing)
        self.done = self.total - sum(len(group) for group in pending)
        self.weight_total = sum(self._weight(cell) for group in pending for cell in group)
        try:
            with ForkServer(PRELOAD, allocator_environment()) as server:
                for group in pending:
                    self._measure(server, group)
        finally:
            self._keep_wall_time()
        shutil.rmtree(self.partial, ignore_errors=True)
        self._complete()

    def _measure(self, server: ForkServer, group: list[BenchCell]) -> None:
        run = GroupRun(
            self.plan,
            self.session,
            server,
            group,
            partial=self.partial,
            ended_before=self.ended_before,
            say=self._say,
        )
        for cell, record in run.run():
            write_cell(self._path(cell), record)
            self.done += 1
            self.weight_done += self._weight(cell)
        self._keep_wall_time()
        self._estimate()

    def _recall(self, finished: list[BenchCell]) -> None:
        """What earlier runs of this session found not to fit."""
        for cell in finished:
            record = read_cell(self._path(cell))
            if record.status in ("oom", "timeout"):
                where = f"{cell.length:,} tokens: {record.reason}"
                self.ended_before.setdefault((cell.model, cell.compiled), (record.status, where))

    def _path(self, cell: BenchCell) -> Path:
        return self.folder / "cells" / f"{cell.file_name}.json"

    def _keep_wall_time(self) -> None:
        """Adds the time since the last call to that of earlier runs."""
        before = json.loads(self.wall_time.read_text("utf-8")) if self.wall_time.exists() else 0.0
        now = time.monotonic()
        write_atomically(self.wall_time, json.dumps(before + now - self.counted_from))
        self.counted_from = now

    def _complete(self) -> None:
        record = read_session(self.folder).record
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        changes = {
            "wall_s": json.loads(self.wall_time.read_text("utf-8")),
            "provenance": {**record.provenance, "finished": finished},
        }
        write_session(self.folder, record.model_copy(update=changes))
        self.wall_time.unlink()

    def _say(self, cell: BenchCell, what: str, reason: str | None) -> None:
        self.on_event(
            {
                "event": "cell",
                "done": self.done,
                "total": self.total,
                "model": cell.model,
                "length": cell.length,
                "compiled": cell.compiled,
                "what": what,
                "reason": reason,
                "left_s": self._left_s(),
            }
        )

    def _estimate(self) -> None:
        now = time.monotonic()
        rate = self.weight_done / (now - self.run_started)
        self.ends_at = now + (self.weight_total - self.weight_done) / rate

    def _left_s(self) -> float | None:
        return None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())

    def _weight(self, cell: BenchCell) -> float:
        return TOKENS_OF_OVERHEAD + self.plan.settings.budget.batch_size * cell.length


def _latest(results: Path, plan: Plan) -> Path | None:
    """The newest session of this plan."""
    found = list(session_folders(results, f"{plan.device_slug}/*-{plan.sha256[:8]}"))
    return found[-1] if found else None


def _session_record(plan: Plan, name: str, command: str) -> SessionRecord:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    environment = describe_environment(plan.device)
    environment["variables"] |= allocator_environment()  # of the processes that measure
    return SessionRecord.model_validate(
        {
            "schema": SCHEMA,
            "session": name,
            "plan_sha256": plan.sha256,
            "protocol": plan.protocol,
            "protocol_sha256": plan.protocol_sha256,
            "overrides": dict(plan.overrides),
            "settings": plan.settings,
            "device": plan.device_slug,
            "precision": plan.precision,
            "mode": plan.mode,
            "batch_size": plan.settings.budget.batch_size,
            "lengths": list(plan.lengths),
            "models": list(plan.models),
            "compiled": list(plan.compiled),
            "padded": plan.padded,
            "cell_seconds": plan.cell_seconds,
            "timeout_s": plan.timeout_s,
            "group_size": plan.group_size,
            "processes": plan.processes,
            "environment": environment,
            "provenance": {**describe_provenance(command), "started": started},
            "wall_s": None,
        }
    )


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does: what is done is kept."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # Not the main thread: the caller's handler stays.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
