"""Runs a measuring session: one process per cell, groups that take turns, every finished cell on disk.

Within a group the machine's drift hits all alike, because its cells take their turns one after the other,
round after round, in an order that is reversed every time. Only one process is ever awake.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lra_bench import registry
from lra_bench.bench.plan import BenchCell, Plan
from lra_bench.bench.records import (
    SCHEMA,
    BenchRecord,
    MachineState,
    Session,
    SessionRecord,
    Turns,
    read_session,
    session_folders,
    write_cell,
    write_session,
)
from lra_bench.errors import LraBenchError
from lra_bench.files import write_atomically
from lra_bench.launch.fork_server import ForkedProcess, ForkServer, NoAnswerError, ProcessDiedError
from lra_bench.launch.local import InterruptedRunError, oom_kills
from lra_bench.locks import held
from lra_bench.measure import machine
from lra_bench.measure.environment import describe_environment, describe_provenance
from lra_bench.records import Status
from lra_bench.stats import median_interval

MachineReading = tuple[float | None, int | None, list[int] | None]
"""Load average, count of throttling, clocks."""
MACHINE_LOCK = Path(tempfile.gettempdir()) / f"lra-bench-{os.getuid()}.lock"
"""Two sessions at once would measure each other."""
CHILD = "lra_bench.bench.child:serve"
PRELOAD = ("lra_bench.bench.child",)
MIN_ROUNDS = 6
"""Six rounds bound the median by their smallest and largest with a level of 97 %."""
MAX_ROUNDS = 30
FEWEST_ROUNDS = 5
"""What a cell gets even if its steps are slower than its share of time allows."""
PRECISE = 0.02
"""A cell is done when the interval of its ratio is within this share on either side."""
TURN_S = 0.4
MAX_TURN_STEPS = 20
COLD_STEP_S = 0.5
"""Steps faster than this are preceded by an untimed one in each turn: the caches went cold in the pause."""
GUARD_SHARE = 0.9
"""Of the memory that is free, what a cell may be predicted to need."""
TOKENS_OF_OVERHEAD = 8192
"""For the time left: what starting and counting cost a cell, as if it were so many more tokens of a batch."""

Event = Mapping[str, Any]


class CellEndedError(LraBenchError):
    """A cell can't go on; what is left is to say so."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class ActiveCell:
    """A cell of the group at hand, with its process and what is known so far."""

    cell: BenchCell
    process: ForkedProcess | None = None
    found: dict[str, Any] = field(default_factory=dict)
    rounds: dict[int, float] = field(default_factory=dict)
    """Median step time of its turn, in seconds, by number of the round."""
    awake_s: float = 0.0
    """Spent on timing."""
    warm_step_s: float = 0.0
    machine_before: MachineReading = (None, None, None)
    status: Status = "ok"
    reason: str | None = None


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
    runner = _Runner(plan, folder, on_event)
    try:
        with _terminate_like_interrupt(), held(MACHINE_LOCK, lambda: on_event({"event": "wait"})):
            runner.run()
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
        self.started = time.monotonic()
        self.ended_before: dict[tuple[str, bool], tuple[Status, str]] = {}
        self.total = sum(len(group) for group in plan.groups)
        self.done = 0
        self.run_started = self.started
        self.weight_done = self.weight_total = 0.0
        """Of the groups of this run, in tokens."""
        self.ends_at: float | None = None
        """Expected, on the monotonic clock; None before the first group is done."""

    def run(self) -> None:
        pending = []
        for group in self.plan.groups:
            missing = [cell for cell in group if not self._path(cell).exists()]
            if any(cell.role == "cell" for cell in missing):
                # Ratios are within a round, so the reference has to be measured with them.
                missing = [group[0], *(cell for cell in missing if cell.role == "cell")]
            elif missing:
                missing = group
            if missing:
                pending.append(missing)
        self.done = self.total - sum(len(group) for group in pending)
        self.weight_total = sum(self._weight(cell) for group in pending for cell in group)
        with ForkServer(PRELOAD) as server:
            for group in pending:
                self._group(server, group)
                self._keep_wall_time(complete=False)
                self._estimate()
        shutil.rmtree(self.partial, ignore_errors=True)
        self._keep_wall_time(complete=True)

    def _group(self, server: ForkServer, group: Sequence[BenchCell]) -> None:
        active = [ActiveCell(cell) for cell in group]
        try:
            for one in active:
                self._guarded(one, lambda one=one: self._start(server, one))  # type: ignore[misc]
            self._rounds([one for one in active if one.status == "ok"])
            for one in active:
                if one.status == "ok":
                    self._guarded(one, lambda one=one: self._finish(one))  # type: ignore[misc]
        finally:
            for one in active:
                if one.process is not None:
                    one.process.kill()
        reference = active[0] if active[0].status == "ok" else None
        # The reference last: without it the whole group is measured again.
        for one in [*active[1:], active[0]]:
            write_cell(self._path(one.cell), self._record(one, reference))
            self.done += 1
            self.weight_done += self._weight(one.cell)

    def _guarded(self, one: ActiveCell, action: Callable[[], None]) -> None:
        """An action of a cell that may be its last."""
        kills = oom_kills()
        try:
            action()
            return
        except CellEndedError as error:
            one.status, one.reason = error.status, str(error)
        except NoAnswerError as error:
            one.status, one.reason = "timeout", str(error)
        except ProcessDiedError as error:
            one.status, one.reason = "error", str(error).splitlines()[0]
            if error.code == -signal.SIGKILL and oom_kills() > kills:
                one.status, one.reason = "oom", "the system ended the process for its use of memory"
        if one.process is not None:
            one.process.kill()
            one.process = None
        if one.status in ("oom", "timeout"):
            where = f"{one.cell.length:,} tokens: {one.reason}"
            self.ended_before.setdefault((one.cell.model, one.cell.compiled), (one.status, where))
        self._say(one, one.status)

    def _start(self, server: ForkServer, one: ActiveCell) -> None:
        """Everything but time: the process, parameters, the guard, FLOPs, warm-up, memory."""
        cell, plan = one.cell, self.plan
        self._say(one, "FLOPs and memory")
        one.process = server.start(CHILD)
        self._ask(
            one,
            "open",
            model=cell.model,
            options=dict(cell.options),
            settings=plan.settings.model_dump(mode="json"),
            length=cell.length,
            device=plan.device,
            precision=plan.precision,
            compiled=cell.compiled,
            mode=plan.mode,
            padded=plan.padded,
            session=self.session,
        )
        one.found = self._read_partial(cell)
        one.found["describe"] = described = self._ask(one, "describe")
        before = self.ended_before.get((cell.model, cell.compiled))
        if before is not None:
            raise CellEndedError(before[0], f"not tried, as it ended as {before[0]} at {before[1]}")
        predicted, available = described["predicted_bytes"], described["available_bytes"]
        if predicted is not None and available is not None and predicted > GUARD_SHARE * available:
            gib = machine.GIB
            raise CellEndedError(
                "oom",
                f"not tried: its closed form predicts {predicted / gib:.1f} GiB, and "
                f"{available / gib:.1f} GiB are free",
            )
        if "flops" not in one.found:
            one.found["flops"] = self._ask(one, "flops")
        start = time.monotonic()
        # The first of a compiled model's steps is its compilation, which is not its time.
        limits = (5, plan.timeout_s) if cell.compiled else (2, plan.cell_seconds / 3)
        one.found["warm_up"] = self._ask(one, "warm_up", min_steps=limits[0], max_seconds=limits[1])
        one.awake_s += 0.0 if cell.compiled else time.monotonic() - start
        if "memory" not in one.found and plan.device != "mps":
            one.found["memory"] = self._ask(one, "memory")
        write_atomically(
            self.partial / f"{cell.file_name}.json",
            json.dumps({name: one.found[name] for name in ("flops", "memory") if name in one.found}),
        )

    def _rounds(self, active: list[ActiveCell]) -> None:
        """Turn by turn until every cell is precise enough or has had its time."""
        for one in active:
            one.machine_before = _read_machine()
            one.warm_step_s = self._turn_or_end(one, 1, 1) or math.inf  # untimed: who paused is cold
        reference = active[0] if active and active[0].cell.role == "reference" else None
        for number in range(MAX_ROUNDS):
            waiting = [
                one
                for one in active
                if one.status == "ok" and one is not reference and not self._enough(one, reference)
            ]
            alone = reference is not None and len(active) == 1 and not self._enough(reference, None)
            if not waiting and not alone:
                return
            lead = [reference] if reference is not None and reference.status == "ok" else []
            turns = [*lead, *waiting]
            for one in turns if number % 2 == 0 else reversed(turns):
                steps = min(MAX_TURN_STEPS, max(1, round(TURN_S / one.warm_step_s)))
                median = self._turn_or_end(one, steps, 1 if one.warm_step_s < COLD_STEP_S else 0)
                if median is not None:
                    one.rounds[number] = median
            self._say(waiting[0] if waiting else active[0], f"round {number + 1}")

    def _turn_or_end(self, one: ActiveCell, steps: int, settle_steps: int) -> float | None:
        """Median seconds of a turn, or None if the cell has ended with it."""
        seconds: list[float] = []

        def turn() -> None:
            start = time.monotonic()
            seconds.extend(self._ask(one, "turn", steps=steps, settle_steps=settle_steps)["seconds"])
            one.awake_s += time.monotonic() - start

        self._guarded(one, turn)
        return statistics.median(seconds) if seconds else None

    def _enough(self, one: ActiveCell, reference: ActiveCell | None) -> bool:
        if len(one.rounds) < FEWEST_ROUNDS:
            return False
        if one.awake_s >= self.plan.cell_seconds:
            return True
        if len(one.rounds) < MIN_ROUNDS:
            return False
        values = _paired(one, reference) if reference is not None else list(one.rounds.values())
        if len(values) < MIN_ROUNDS:
            return False
        interval, middle = median_interval(values), statistics.median(values)
        return max(interval.high - middle, middle - interval.low) <= PRECISE * middle

    def _finish(self, one: ActiveCell) -> None:
        one.found["time"] = self._ask(one, "result")

    def _record(self, one: ActiveCell, reference: ActiveCell | None) -> BenchRecord:
        cell, found = one.cell, one.found
        described = found.get("describe") or _undescribed(cell.model)
        timed = found.get("time") if one.status == "ok" else None
        flops = found.get("flops")
        turns = None
        if timed and reference is not None and one is not reference:
            shared = [number for number in one.rounds if number in reference.rounds]
            turns = Turns(
                own_s=[one.rounds[number] for number in shared],
                reference_s=[reference.rounds[number] for number in shared],
            )
        warm_up = found.get("warm_up", {"backend": "", "kernels": []})
        return BenchRecord.model_validate(
            {
                "schema": SCHEMA,
                "session": self.session,
                "role": cell.role,
                "group": cell.group,
                "model": cell.model,
                "family": described["family"],
                "options": dict(cell.options),
                "changed_options": dict(cell.changed_options),
                "length": cell.length,
                "batch_size": self.plan.settings.budget.batch_size,
                "compiled": cell.compiled,
                "status": one.status,
                "reason": one.reason,
                **warm_up,
                "parameters": described["parameters"],
                "parameter_ratio": described["parameter_ratio"],
                "predicted_bytes": described["predicted_bytes"],
                "flops": flops,
                "peak_memory": found.get("memory"),
                "step_time": timed,
                "turns": turns,
                "flops_per_s": flops["step"] / timed["median_s"] if flops and timed else None,
                "machine": _machine_part(one.machine_before) if timed else None,
            }
        )

    def _ask(self, one: ActiveCell, what: str, **arguments: Any) -> Any:
        assert one.process is not None
        answer = one.process.ask({"do": what, **arguments}, self.plan.timeout_s)
        if "ok" not in answer:
            raise CellEndedError(answer["status"], answer["reason"])
        return answer["ok"]

    def _path(self, cell: BenchCell) -> Path:
        return self.folder / "cells" / f"{cell.file_name}.json"

    def _read_partial(self, cell: BenchCell) -> dict[str, Any]:
        path = self.partial / f"{cell.file_name}.json"
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return found

    def _keep_wall_time(self, *, complete: bool) -> None:
        """Adds this run's time to that of earlier runs; only a complete session has a total."""
        spent = self.partial.parent / "wall_s.json"
        before = json.loads(spent.read_text("utf-8")) if spent.exists() else 0.0
        total = before + time.monotonic() - self.started
        self.started = time.monotonic()
        if not complete:
            write_atomically(spent, json.dumps(total))
            return
        record = read_session(self.folder).record
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        provenance = {**record.provenance, "finished": finished}
        write_session(self.folder, record.model_copy(update={"wall_s": total, "provenance": provenance}))
        spent.unlink(missing_ok=True)

    def _say(self, one: ActiveCell, what: str) -> None:
        self.on_event(
            {
                "event": "cell",
                "done": self.done,
                "total": self.total,
                "model": one.cell.model,
                "length": one.cell.length,
                "compiled": one.cell.compiled,
                "what": what,
                "reason": one.reason,
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


def _paired(one: ActiveCell, reference: ActiveCell) -> list[float]:
    return [own / reference.rounds[n] for n, own in one.rounds.items() if n in reference.rounds]


def _latest(results: Path, plan: Plan) -> Path | None:
    """The newest session of this plan."""
    found = list(session_folders(results, f"{plan.device_slug}/*-{plan.sha256[:8]}"))
    return found[-1] if found else None


def _session_record(plan: Plan, name: str, command: str) -> SessionRecord:
    started = datetime.now(UTC).isoformat(timespec="seconds")
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
            "environment": describe_environment(plan.device),
            "provenance": {**describe_provenance(command), "started": started},
            "wall_s": None,
        }
    )


def _undescribed(model: str) -> dict[str, Any]:
    """For a cell that could not even be built."""
    return {
        "family": registry.models.get(model).family,
        "parameters": {"embedding": 0, "length_dependent": 0, "core": 0},
        "parameter_ratio": None,
        "predicted_bytes": None,
    }


def _read_machine() -> MachineReading:
    return machine.load_average(), machine.cpu_throttle_count(), machine.cpu_clocks_mhz()


def _machine_part(before: MachineReading) -> MachineState:
    after = _read_machine()
    throttled = None if before[1] is None or after[1] is None else after[1] - before[1]
    return MachineState(
        load_average_before=before[0],
        load_average_after=after[0],
        throttled=throttled,
        clock_mhz_before=before[2],
        clock_mhz_after=after[2],
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
