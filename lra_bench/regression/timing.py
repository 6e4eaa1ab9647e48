"""Step time of two revisions side by side, until the answer is clear or the time is spent.

A pair is one fresh process of each revision; they take turns, in an order that is reversed every round, and
the pair's ratio is the median over its rounds. Steps within a process are correlated, and equal processes
differ for as long as they live, so the pair is the unit: the interval is Student's, of logarithms of ratios.

It is looked at after every pair. Look k of the first on spends alpha / (k (k + 1)) of the error that is
allowed in all; these sum to alpha, so an answer errs with at most that probability however often it was
looked at (a union bound; cf. Lan and DeMets, 'Discrete sequential boundaries', Biometrika 70, 1983).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy import special

from lra_bench.errors import LraBenchError
from lra_bench.launch.fork_server import ForkedProcess, ForkServer, NoAnswerError, ProcessDiedError
from lra_bench.regression.gathering import PROBE
from lra_bench.regression.rules import TimeRules

Answer = Literal["slower", "faster", "same", "inconclusive", "failed"]

FIRST_LOOK = 4
"""Pairs before the first look: fewer have no spread to speak of."""
ROUNDS = 3
"""Turns of each process of a pair."""
TURN_S = 0.25
WARM_UP_S = 1.0
STEPS = (2, 20)
"""Of a turn, at least and at most."""
ANSWER_S = 120.0
"""A probe that says nothing for so long is stuck."""


class TimingFailedError(LraBenchError):
    """A revision can't take the step."""


@dataclass(frozen=True)
class TimeVerdict:
    """What is known of the ratio candidate / baseline of a model's step time."""

    model: str
    answer: Answer
    ratio: float | None
    low: float | None
    high: float | None
    pairs: int
    seconds: float
    note: str = ""


def confidence_bounds(logs: Sequence[float], confidence: float) -> tuple[float, float]:
    """Interval of the ratio after so many pairs, the spending of earlier looks included.

    logs: natural logarithms of pair ratios, at least `FIRST_LOOK`.
    """
    look = len(logs) - FIRST_LOOK + 1
    alpha = (1 - confidence) / (look * (look + 1))
    width = (
        float(special.stdtrit(len(logs) - 1, 1 - alpha / 2)) * statistics.stdev(logs) / math.sqrt(len(logs))
    )
    mean = statistics.fmean(logs)
    return math.exp(mean - width), math.exp(mean + width)


def answer_of(low: float, high: float, rules: TimeRules) -> Answer | None:
    """The answer that an interval of the ratio gives, or None while it gives none."""
    if low > 1 + rules.at_least:
        return "slower"
    if high < 1 / (1 + rules.at_least):
        return "faster"
    if low >= 1 / (1 + rules.within) and high <= 1 + rules.within:
        return "same"
    return None


def compare_times(
    model: str,
    before: ForkServer,
    after: ForkServer,
    rules: TimeRules,
    protocol: str,
    *,
    say: Callable[[int, float, float], None] = lambda *_: None,
) -> TimeVerdict:
    """Runs pairs until the answer is clear or `rules.budget_s` is spent.

    say: told pairs so far and the bounds.
    """
    started = time.monotonic()
    logs: list[float] = []
    bounds: tuple[float, float] | None = None
    answer: Answer | None = None
    longest = 0.0
    while answer is None:
        begun = time.monotonic()
        if logs and begun - started + longest > rules.budget_s:
            break
        try:
            logs.append(_pair(model, before, after, rules, protocol, reverse=len(logs) % 2 == 1))
        except TimingFailedError as error:
            seconds = time.monotonic() - started
            return TimeVerdict(model, "failed", None, None, None, len(logs), seconds, str(error))
        longest = max(longest, time.monotonic() - begun)
        if len(logs) >= FIRST_LOOK:
            bounds = confidence_bounds(logs, rules.confidence)
            say(len(logs), *bounds)
            answer = answer_of(*bounds, rules)
    low, high = bounds or (None, None)
    note = "" if bounds else f"only {len(logs)} pairs within {rules.budget_s:g} s; raise the budget"
    return TimeVerdict(
        model,
        answer or "inconclusive",
        math.exp(statistics.fmean(logs)),
        low,
        high,
        len(logs),
        time.monotonic() - started,
        note,
    )


def _pair(
    model: str, before: ForkServer, after: ForkServer, rules: TimeRules, protocol: str, *, reverse: bool
) -> float:
    """Logarithm of the ratio of one fresh process of each."""
    sides = [("baseline", before), ("candidate", after)]
    if reverse:
        sides.reverse()
    processes = {name: server.start(f"{PROBE}:serve") for name, server in sides}
    try:
        request = {
            "do": "warm_up",
            "model": model,
            "protocol": protocol,
            "length": rules.length,
            "batch_size": rules.batch_size,
            "seconds": WARM_UP_S,
        }
        steps = 0
        for name, process in processes.items():
            warm = _ask(name, process, request)
            steps = steps or max(STEPS[0], min(STEPS[1], round(TURN_S / warm["step_s"])))
        ratios = []
        names = list(processes)
        for number in range(ROUNDS):
            order = names if number % 2 == 0 else names[::-1]
            seconds = {
                name: statistics.median(
                    _ask(name, processes[name], {"do": "turn", "steps": steps})["seconds"]
                )
                for name in order
            }
            ratios.append(math.log(seconds["candidate"] / seconds["baseline"]))
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
