"""One group of a measuring session: cells of one length that take turns beside their reference.

Within a group the machine's drift hits all alike, because its cells take their turns one after the other,
round after round, in an order that is reversed every time. Only one process is ever awake.

Equal processes differ by some per cent for as long as they live (where their memory lies), the reference's
among them, and no number of rounds shows it. So all of a group is timed in several passes, each in
processes of its own.
"""

from __future__ import annotations

import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lra_bench import registry
from lra_bench.bench.machine_state import MachineReading, machine_state, read_machine
from lra_bench.bench.plan import BenchCell, Plan
from lra_bench.bench.records import SCHEMA, BenchRecord, Turns
from lra_bench.errors import LraBenchError
from lra_bench.files import write_atomically
from lra_bench.launch.fork_server import ForkedProcess, ForkServer, NoAnswerError, ProcessDiedError
from lra_bench.launch.local import oom_kills
from lra_bench.measure import machine
from lra_bench.records import Status
from lra_bench.stats import median_interval

CHILD = "lra_bench.bench.child:serve"
MIN_ROUNDS = 6
"""Six rounds bound the median by their smallest and largest with a level of 97 %."""
MAX_ROUNDS = 30
"""Of a pass."""
FEWEST_ROUNDS = 5
"""Over all passes: what a cell gets even if its steps are slower than its share of time allows."""
FEWEST_ROUNDS_OF_A_PASS = 3
"""Of two, one disturbed turn would move the median."""
PRECISE = 0.02
"""A cell is done when the interval of its ratio is within this share on either side."""
TURN_S = 0.4
MAX_TURN_STEPS = 20
COLD_STEP_S = 0.5
"""Steps faster than this are preceded by an untimed one in each turn: the caches went cold in the pause."""
GUARD_SHARE = 0.9
"""Of the memory that is free, what a cell may be predicted to need."""


class Round(NamedTuple):
    """Of a pass, both from 0."""

    number_of_pass: int
    number: int


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
    rounds: dict[Round, float] = field(default_factory=dict)
    """Median step time of its turn, in seconds."""
    earlier: list[dict[str, Any]] = field(default_factory=list)
    """What its processes of earlier passes have timed."""
    awake_s: float = 0.0
    """Spent on timing."""
    warm_step_s: float = 0.0
    machine_before: MachineReading = (None, None, None)
    status: Status = "ok"
    reason: str | None = None


class GroupRun:
    """Measures one group. What is known apart from time goes to `partial` as soon as it is.

    Args:
        cells: the reference first.
        ended_before: what has run out of memory or time at a shorter length, by model and compile setting;
            added to here.
        say: told what happens: cell, what, and a reason where a cell has ended.
    """

    def __init__(
        self,
        plan: Plan,
        session: str,
        server: ForkServer,
        cells: Sequence[BenchCell],
        *,
        partial: Path,
        ended_before: dict[tuple[str, bool], tuple[Status, str]],
        say: Callable[[BenchCell, str, str | None], None],
    ) -> None:
        self.plan = plan
        self.session = session
        self.server = server
        self.active = [ActiveCell(cell) for cell in cells]
        self.partial = partial
        self.ended_before = ended_before
        self.say = say

    def run(self) -> list[tuple[BenchCell, BenchRecord]]:
        """The records to write, in this order: the reference last, as without it the group is not done."""
        try:
            self._each(self._prepare)
            passes = self.plan.processes
            for number in range(passes):
                if number:
                    self._each(self._prepare_again)
                self._rounds(number, [one for one in self.active if one.status == "ok"])
                self._each(self._put_away if number < passes - 1 else self._finish)
        finally:
            for one in self.active:
                if one.process is not None:
                    one.process.kill()
        first = self.active[0]
        reference = first if first.status == "ok" else None
        return [(one.cell, self._record(one, reference)) for one in [*self.active[1:], first]]

    def _each(self, action: Callable[[ActiveCell], None]) -> None:
        for one in self.active:
            if one.status == "ok":
                self._guarded(one, action)

    def _guarded(self, one: ActiveCell, action: Callable[[ActiveCell], None]) -> None:
        """An action of a cell that may be its last."""
        kills = oom_kills()
        try:
            action(one)
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
        self.say(one.cell, one.status, one.reason)

    def _open(self, one: ActiveCell) -> None:
        """A process of its own, that knows what it is to measure."""
        cell, plan = one.cell, self.plan
        one.process = self.server.start(CHILD)
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

    def _prepare(self, one: ActiveCell) -> None:
        """Everything but time: parameters, the guard, FLOPs, warm-up, memory."""
        cell, plan = one.cell, self.plan
        self.say(cell, "FLOPs and memory", None)
        self._open(one)
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
        one.found["warm_up"] = self._warm_up(one)
        if "memory" not in one.found and plan.device != "mps":
            one.found["memory"] = self._ask(one, "memory")
        write_atomically(
            self.partial / f"{cell.file_name}.json",
            json.dumps({name: one.found[name] for name in ("flops", "memory") if name in one.found}),
        )

    def _prepare_again(self, one: ActiveCell) -> None:
        """For the next pass."""
        self._open(one)
        self._warm_up(one)

    def _put_away(self, one: ActiveCell) -> None:
        """Ends a pass: keeps what its process has timed."""
        one.earlier.append(self._ask(one, "timing"))
        assert one.process is not None
        one.process.kill()
        one.process = None

    def _warm_up(self, one: ActiveCell) -> dict[str, Any]:
        start = time.monotonic()
        # The first of a compiled model's steps is its compilation, which is not its time.
        share = self.plan.cell_seconds / 3 / self.plan.processes
        limits = (5, self.plan.timeout_s) if one.cell.compiled else (2, share)
        answer: dict[str, Any] = self._ask(one, "warm_up", min_steps=limits[0], max_seconds=limits[1])
        one.awake_s += 0.0 if one.cell.compiled else time.monotonic() - start
        return answer

    def _rounds(self, number_of_pass: int, active: list[ActiveCell]) -> None:
        """Turn by turn until every cell is precise enough or has had its time for this pass."""
        for one in active:
            if number_of_pass == 0:
                one.machine_before = read_machine()
            one.warm_step_s = self._turn_or_end(one, 1, 1) or math.inf  # says how long a turn is
        reference = active[0] if active and active[0].cell.role == "reference" else None
        for number in range(MAX_ROUNDS):
            waiting = [
                one
                for one in active
                if one.status == "ok"
                and one is not reference
                and not self._enough(one, reference, number_of_pass)
            ]
            alone = len(active) == 1 and reference is not None
            alone = alone and not self._enough(active[0], None, number_of_pass)
            if not waiting and not alone:
                return
            lead = [reference] if reference is not None and reference.status == "ok" else []
            turns = [*lead, *waiting]
            for one in turns if number % 2 == 0 else reversed(turns):
                steps = min(MAX_TURN_STEPS, max(1, round(TURN_S / one.warm_step_s)))
                median = self._turn_or_end(one, steps, 1 if one.warm_step_s < COLD_STEP_S else 0)
                if median is not None:
                    one.rounds[Round(number_of_pass, number)] = median
            counted = f"round {number + 1} of pass {number_of_pass + 1}"
            self.say((waiting or active)[0].cell, counted, None)

    def _turn_or_end(self, one: ActiveCell, steps: int, settle_steps: int) -> float | None:
        """Median seconds of a turn, or None if the cell has ended with it."""
        seconds: list[float] = []

        def turn(one: ActiveCell) -> None:
            start = time.monotonic()
            seconds.extend(self._ask(one, "turn", steps=steps, settle_steps=settle_steps)["seconds"])
            one.awake_s += time.monotonic() - start

        self._guarded(one, turn)
        return statistics.median(seconds) if seconds else None

    def _enough(self, one: ActiveCell, reference: ActiveCell | None, number_of_pass: int) -> bool:
        """Whether the cell is done with this pass."""
        own = {key: value for key, value in one.rounds.items() if key.number_of_pass == number_of_pass}
        passes = self.plan.processes
        if len(own) < max(FEWEST_ROUNDS_OF_A_PASS, math.ceil(FEWEST_ROUNDS / passes)):
            return False
        if one.awake_s >= self.plan.cell_seconds * (number_of_pass + 1) / passes:
            return True
        values = list(own.values())
        if reference is not None:
            values = [own[key] / reference.rounds[key] for key in own if key in reference.rounds]
        if len(values) < MIN_ROUNDS:
            return False
        interval, middle = median_interval(values), statistics.median(values)
        return max(interval.high - middle, middle - interval.low) <= PRECISE * middle

    def _finish(self, one: ActiveCell) -> None:
        one.found["time"] = self._ask(one, "result", earlier=one.earlier)

    def _record(self, one: ActiveCell, reference: ActiveCell | None) -> BenchRecord:
        cell, found = one.cell, one.found
        described = found.get("describe") or _undescribed(cell.model)
        timed = found.get("time") if one.status == "ok" else None
        flops = found.get("flops")
        turns = None
        if timed and reference is not None and one is not reference:
            shared = [key for key in one.rounds if key in reference.rounds]
            turns = Turns(
                own_s=[one.rounds[key] for key in shared],
                reference_s=[reference.rounds[key] for key in shared],
                process=[key.number_of_pass for key in shared],
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
                "machine": machine_state(one.machine_before) if timed else None,
            }
        )

    def _ask(self, one: ActiveCell, what: str, **arguments: Any) -> Any:
        assert one.process is not None
        answer = one.process.ask({"do": what, **arguments}, self.plan.timeout_s)
        if "ok" not in answer:
            raise CellEndedError(answer["status"], answer["reason"])
        return answer["ok"]

    def _read_partial(self, cell: BenchCell) -> dict[str, Any]:
        path = self.partial / f"{cell.file_name}.json"
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return found


def _undescribed(model: str) -> dict[str, Any]:
    """For a cell that could not even be built."""
    return {
        "family": registry.models.get(model).family,
        "parameters": {"embedding": 0, "length_dependent": 0, "core": 0},
        "parameter_ratio": None,
        "predicted_bytes": None,
    }
