"""How the machine was while a cell was timed."""

from __future__ import annotations

from lra_bench.bench.records import MachineState
from lra_bench.measure import machine

MachineReading = tuple[float | None, int | None, list[int] | None]
"""Load average, count of throttling, clocks."""


def read_machine() -> MachineReading:
    """As it is now."""
    return machine.load_average(), machine.cpu_throttle_count(), machine.cpu_clocks_mhz()


def machine_state(before: MachineReading) -> MachineState:
    """Between a reading and now."""
    after = read_machine()
    throttled = None if before[1] is None or after[1] is None else after[1] - before[1]
    return MachineState(
        load_average_before=before[0],
        load_average_after=after[0],
        throttled=throttled,
        clock_mhz_before=before[2],
        clock_mhz_after=after[2],
    )
