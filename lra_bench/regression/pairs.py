"""One pair of processes whose training steps are timed by turns: the unit of every comparison of times."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lra_bench.errors import LraBenchError
from lra_bench.launch.fork_server import ForkedProcess, ForkServer, NoAnswerError, ProcessDiedError
from lra_bench.regression.gathering import PROBE
from lra_bench.regression.rules import TimeRules

TURN_S = 0.08
STEPS = (2, 20)
"""Of a turn, at least and at most."""
PAIR_S = 3.0
"""Of turns, for each pair."""
ROUNDS = (4, 60)
"""Of a pair, at least and at most."""
WARM_UP_S = 0.5
ANSWER_S = 120.0
"""A probe that says nothing for so long is stuck."""


class TimingFailedError(LraBenchError):
    """One of the two can't take the step."""


@dataclass(frozen=True)
class Side:
    """What one process of a pair runs."""

    name: str
    server: ForkServer
    warm_up: dict[str, Any]
    """The request that builds the step and runs it until it is steady."""


PairRatio = Callable[[bool], float]
"""Logarithm of the ratio of one more pair; told whether the second side starts."""


def model_side(name: str, server: ForkServer, model: str, rules: TimeRules, protocol: str) -> Side:
    request = {
        "do": "warm_up",
        "model": model,
        "protocol": protocol,
        "length": rules.length,
        "batch_size": rules.batch_size,
        "seconds": WARM_UP_S,
    }
    return Side(name, server, request)


def calibration_side(server: ForkServer) -> Side:
    return Side("calibration", server, {"do": "warm_up_calibration", "seconds": WARM_UP_S})


def pair_ratio(one: Side, other: Side, *, reverse: bool = False) -> float:
    """log(other's step time / one's) of one fresh process of each, the median over their rounds.

    Raises:
        TimingFailedError: a process has no answer, or a reason why not.
    """
    sides = [other, one] if reverse else [one, other]
    processes = {side.name: side.server.start(f"{PROBE}:serve") for side in sides}
    try:
        with ThreadPoolExecutor(2) as pool:
            warm = list(pool.map(lambda side: _ask(side.name, processes[side.name], side.warm_up), sides))
        steps = {
            side.name: max(STEPS[0], min(STEPS[1], round(TURN_S / found["step_s"])))
            for side, found in zip(sides, warm, strict=True)
        }

        def turn(name: str) -> float:
            answer = _ask(name, processes[name], {"do": "turn", "steps": steps[name]})
            seconds: list[float] = answer["seconds"]
            return statistics.median(seconds)

        ratios: list[float] = []
        names = list(processes)
        begun = time.monotonic()
        while len(ratios) < ROUNDS[1] and (len(ratios) < ROUNDS[0] or time.monotonic() - begun < PAIR_S):
            seconds = {name: turn(name) for name in (names if len(ratios) % 2 == 0 else names[::-1])}
            ratios.append(math.log(seconds[other.name] / seconds[one.name]))
    finally:
        for process in processes.values():
            process.kill()
    return statistics.median(ratios)


def _ask(name: str, process: ForkedProcess, request: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = process.ask(request, ANSWER_S)
    except (ProcessDiedError, NoAnswerError) as error:
        raise TimingFailedError(f"{name}: {str(error).splitlines()[0]}") from None
    if "ok" not in answer:
        raise TimingFailedError(f"{name}: {answer['reason']}")
    found: dict[str, Any] = answer["ok"]
    return found
