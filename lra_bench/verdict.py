"""What a score shows, in plain words: chance, not above a control, or above all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lra_bench.data.task import TaskSpec
from lra_bench.records import Accuracy, ControlLevel, Verdict
from lra_bench.stats import binomial_p_above

LEVEL = 0.05


def judge(
    accuracy: Accuracy | None,
    spec: TaskSpec,
    test_labels: NDArray[np.uint8] | None,
    controls: Sequence[ControlLevel],
) -> Verdict | None:
    """Reads a test score against chance, the majority class of the test set and the controls.

    `chance` unless a one-sided exact binomial test at 5 % says otherwise; `above_controls` only if
    the whole 95 % interval lies above the best control's score.
    """
    if accuracy is None or test_labels is None:
        return None
    score = accuracy.best
    majority = float(np.bincount(test_labels).max() / len(test_labels))
    floor = max(spec.chance, majority)
    shown = f"{score.accuracy:.1%} ({score.interval[0]:.1%} to {score.interval[1]:.1%}, n = {score.n:,})"
    levels = list(controls)
    p_value = binomial_p_above(score.correct, score.n, floor)
    if p_value >= LEVEL:
        text = f"{shown} is not distinguishable from chance ({floor:.1%}, p = {p_value:.2f})."
        return Verdict(label="chance", text=text, controls=levels)
    if not levels:
        text = f"{shown} is above chance ({floor:.1%}); no control was run beside it."
        return Verdict(label="not_compared", text=text, controls=levels)
    best = max(levels, key=lambda control: control.accuracy)
    if score.interval[0] > best.accuracy:
        text = f"{shown} is above every control (best: {best.name}, {best.accuracy:.1%})."
        return Verdict(label="above_controls", text=text, controls=levels)
    relation = "below" if score.interval[1] < best.accuracy else "not distinguishable from"
    text = (
        f"{shown} is above chance ({floor:.1%}) but {relation} the control {best.name} ({best.accuracy:.1%})."
    )
    return Verdict(label="not_above_controls", text=text, controls=levels)
