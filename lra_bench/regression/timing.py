"""Step time of two revisions, until the answer is clear or the time is spent.

The unit is a pair: one fresh process of each revision, whose turns of a few steps follow one another at once,
so that what slows a machine down for a second slows both sides down (`pairs`). Steps within a process are
correlated, and equal processes differ for as long as they live: the interval is Student's, over pairs, of
logarithms of ratios.

It is looked at after 4 pairs, and again whenever there are a third more. Look k spends alpha / (k (k + 1))
of the error that is allowed in all; these sum to alpha, so an answer errs with at most that probability
however often it was looked at (a union bound; cf. Lan and DeMets, 'Discrete sequential boundaries',
Biometrika 70, 1983). Looking at every pair would spend most of it on looks that can't tell anything new.

A stored baseline has ratios to a calibration step that never changes. The same ratio is measured now, and the
difference of the two is judged by Welch's interval, with wider margins: what is equal drifts between days.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from lra_bench.launch.fork_server import ForkServer
from lra_bench.regression.calibration import VERSION
from lra_bench.regression.evidence import ModelTime
from lra_bench.regression.pairs import (
    PairRatio,
    TimingFailedError,
    calibration_side,
    model_side,
    pair_ratio,
)
from lra_bench.regression.rules import TimeRules

Answer = Literal["slower", "faster", "same", "inconclusive", "failed", "not compared"]
Say = Callable[[int, float, float], None]
"""Told pairs so far and the bounds of the ratio."""

FIRST_LOOK = 4
"""Pairs before the first look: fewer have no spread to speak of."""
LOOK_GROWTH = 4 / 3
"""From one look to the next."""


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


def looks(pairs: int) -> list[int]:
    """After how many pairs the interval is looked at, up to `pairs`: 4, 6, 8, 11, 15, 20, 27, 36 ..."""
    found, at = [], FIRST_LOOK
    while at <= pairs:
        found.append(at)
        at = math.ceil(at * LOOK_GROWTH)
    return found


def looks_before(pairs: int, *, last: bool = False) -> int:
    """How many looks there were after so many pairs; `last` is one out of turn, because time is up."""
    seen = looks(pairs)
    return len(seen) + (last and seen[-1:] != [pairs])


def confidence_bounds(
    logs: Sequence[float],
    confidence: float,
    *,
    stored: Sequence[float] | None = None,
    last: bool = False,
) -> tuple[float, float]:
    """Interval of the ratio after so many pairs, the spending of earlier looks included.

    Args:
        logs: natural logarithms of pair ratios, at least `FIRST_LOOK`.
        stored: those of a baseline, to the same calibration; the ratio is then to what it had.
        last: see `looks_before`.
    """
    look = looks_before(len(logs), last=last)
    alpha = (1 - confidence) / (look * (look + 1))
    middle, variance, freedom = statistics.fmean(logs), statistics.variance(logs) / len(logs), len(logs) - 1.0
    if stored is not None:
        middle -= statistics.fmean(stored)
        theirs = statistics.variance(stored) / len(stored)
        total = variance + theirs
        if total:  # Welch and Satterthwaite
            freedom = total**2 / (variance**2 / freedom + theirs**2 / (len(stored) - 1))
        variance = total
    width = float(special.stdtrit(freedom, 1 - alpha / 2)) * math.sqrt(variance)
    return math.exp(middle - width), math.exp(middle + width)


def answer_of(low: float, high: float, *, at_least: float, within: float) -> Answer | None:
    """The answer that an interval of the ratio gives, or None while it gives none."""
    if low > 1 + at_least:
        return "slower"
    if high < 1 / (1 + at_least):
        return "faster"
    if low >= 1 / (1 + within) and high <= 1 + within:
        return "same"
    return None


def compare_times(
    model: str,
    before: ForkServer,
    after: ForkServer,
    rules: TimeRules,
    protocol: str,
    *,
    say: Say = lambda *_: None,
) -> TimeVerdict:
    """Two revisions side by side, until the answer is clear or `rules.budget_s` is spent."""
    one = model_side("baseline", before, model, rules, protocol)
    other = model_side("candidate", after, model, rules, protocol)
    return _until_clear(
        model,
        lambda reverse: pair_ratio(one, other, reverse=reverse),
        rules,
        rules.at_least,
        rules.within,
        say,
    )


def compare_with_stored(
    stored: ModelTime, server: ForkServer, rules: TimeRules, protocol: str, *, say: Say = lambda *_: None
) -> TimeVerdict:
    """What is installed with a stored baseline, by the calibration step that both were measured beside."""
    if (stored.calibration, stored.length, stored.batch_size) != (VERSION, rules.length, rules.batch_size):
        note = (
            f"the baseline was timed at {stored.batch_size} x {stored.length}, "
            f"calibration {stored.calibration}; "
            f"expected {rules.batch_size} x {rules.length}, calibration {VERSION}. Write it again"
        )
        return TimeVerdict(stored.model, "not compared", None, None, None, 0, 0.0, note)
    one, other = calibration_side(server), model_side("candidate", server, stored.model, rules, protocol)
    return _until_clear(
        stored.model,
        lambda reverse: pair_ratio(one, other, reverse=reverse),
        rules,
        rules.stored_at_least,
        rules.stored_within,
        say,
        stored.logs,
    )


def measure_for_storing(
    model: str, server: ForkServer, rules: TimeRules, protocol: str, *, say: Say = lambda *_: None
) -> ModelTime:
    """Ratios of a model's step to the calibration's, `rules.baseline_pairs` of them, for a baseline file."""
    one, other = calibration_side(server), model_side("model", server, model, rules, protocol)
    logs: list[float] = []
    failure = None
    try:
        for number in range(rules.baseline_pairs):
            logs.append(pair_ratio(one, other, reverse=number % 2 == 1))
    except TimingFailedError as error:
        logs, failure = [], str(error)
    else:
        say(len(logs), *confidence_bounds(logs, rules.confidence))
    return ModelTime(
        model=model,
        failure=failure,
        calibration=VERSION,
        length=rules.length,
        batch_size=rules.batch_size,
        logs=logs,
    )


def _until_clear(
    model: str,
    next_pair: PairRatio,
    rules: TimeRules,
    at_least: float,
    within: float,
    say: Say,
    stored: Sequence[float] | None = None,
) -> TimeVerdict:
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
            logs.append(next_pair(len(logs) % 2 == 1))
        except TimingFailedError as error:
            seconds = time.monotonic() - started
            return TimeVerdict(model, "failed", None, None, None, len(logs), seconds, str(error))
        longest = max(longest, time.monotonic() - begun)
        last = time.monotonic() - started + longest > rules.budget_s
        if len(logs) in looks(len(logs)) or (last and len(logs) > FIRST_LOOK):
            bounds = confidence_bounds(logs, rules.confidence, stored=stored, last=last)
            say(len(logs), *bounds)
            answer = answer_of(*bounds, at_least=at_least, within=within)
    low, high = bounds or (None, None)
    middle = statistics.fmean(logs) - (statistics.fmean(stored) if stored is not None else 0.0)
    return TimeVerdict(
        model,
        answer or "inconclusive",
        math.exp(middle),
        low,
        high,
        len(logs),
        time.monotonic() - started,
        "" if bounds else f"too few to tell within {rules.budget_s:g} s; raise the budget",
    )
