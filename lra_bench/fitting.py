"""Fits and scores an estimator: what training and evaluation are for a model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lra_bench.data.prepare import PreparedSplit
from lra_bench.data.task import Split
from lra_bench.errors import LraBenchError
from lra_bench.estimator import Estimator
from lra_bench.evaluation import Evaluation
from lra_bench.protocol import Settings
from lra_bench.record_parts import evaluation_part
from lra_bench.records import Accuracy, CurvePoint
from lra_bench.train import StoppedError, TimeLimitError

FIT_STEP = 1
"""In records a fit is one step: at step 0 nothing has been learned."""
EVENT_INTERVAL_S = 0.1
LEAST_LOG_PROBABILITY = math.log(np.finfo(np.float64).tiny)
"""A class that is given probability 0 costs this much (-708) and not infinitely much."""


class Fit:
    """One estimator fitted on the training split and scored on all three.

    `emit` gets `fit` events with what is done, how much of it and of how much; `should_stop` is asked
    as often. Stopping, the protocol's time limit and pauses come to pass where the estimator reports
    progress; what `pause` takes, in seconds, is no part of the time.
    """

    def __init__(
        self,
        estimator: Estimator,
        splits: Mapping[Split, PreparedSplit],
        settings: Settings,
        emit: Callable[[Mapping[str, Any]], None],
        should_stop: Callable[[], bool],
        pause: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.estimator = estimator
        self.splits = splits
        self.settings = settings
        self.emit = emit
        self.should_stop = should_stop
        self.pause = pause
        self.train_s = 0.0
        """Wall-clock seconds of fitting."""
        self._last_event = -math.inf
        self._paused_s = 0.0
        estimator.on_progress = self._on_progress

    def run(self) -> None:
        """Raises StoppedError: `should_stop` said so. TimeLimitError: the time limit has passed."""
        limit = self.settings.budget.time_limit_s
        started = time.monotonic()

        def on_progress(what: str, done: int, total: int) -> None:
            self._on_progress(what, done, total)
            if limit is not None and time.monotonic() - started - self._paused_s > limit:
                raise TimeLimitError(f"fitting passed budget.time_limit_s={limit:g} ({what})")

        self.estimator.on_progress = on_progress
        self._stop_if_asked("before fitting")
        self.estimator.fit(self.splits["train"])
        self.train_s = time.monotonic() - started - self._paused_s
        self.estimator.on_progress = self._on_progress
        self._stop_if_asked("after fitting")

    def score(self, split: Split, limit: int | None = None) -> Evaluation:
        """Every example of a split, or the first `limit`."""
        examples = self.splits[split]
        return score_estimator(self.estimator, examples if limit is None else first_examples(examples, limit))

    def accuracy(self, test: Evaluation, predictions_file: str) -> Accuracy:
        """The record's part: there is one fit, so that the best one is the last one."""
        evaluation = self.settings.evaluation
        validation, train = self.score("validation"), self.score("train", evaluation.train_examples)
        target = evaluation.target_accuracy
        reached = target is not None and validation.accuracy >= target
        point = CurvePoint(
            step=FIT_STEP,
            train_loss=train.loss,
            validation_accuracy=validation.accuracy,
            validation_loss=validation.loss,
            elapsed_s=self.train_s,
        )
        return Accuracy(
            best=evaluation_part(FIT_STEP, test),
            last=evaluation_part(FIT_STEP, test),
            validation=evaluation_part(FIT_STEP, validation),
            train=evaluation_part(FIT_STEP, train),
            curve=[point],
            target_accuracy=target,
            steps_to_target=FIT_STEP if reached else None,
            seconds_to_target=self.train_s if reached else None,
            train_s=self.train_s,
            predictions_file=predictions_file,
        )

    def _on_progress(self, what: str, done: int, total: int) -> None:
        self._paused_s += self.pause()
        self._stop_if_asked(what)
        now = time.monotonic()
        if done == total or now - self._last_event >= EVENT_INTERVAL_S:
            self._last_event = now
            self.emit({"event": "fit", "what": what, "done": done, "total": total})

    def _stop_if_asked(self, when: str) -> None:
        if self.should_stop():
            raise StoppedError(f"Stopped ({when}); the same command starts it again from the beginning.")


def first_examples(split: PreparedSplit, count: int) -> PreparedSplit:
    """The first `count` examples of a split, or all where it has fewer; its fingerprint is left empty."""
    if count >= split.num_examples:
        return split
    return replace(split, dataset=split.dataset.select(range(count)), fingerprint="")


def score_estimator(estimator: Estimator, split: PreparedSplit) -> Evaluation:
    """The most probable classes (of equally probable ones the lowest) and the mean log loss.

    Raises:
        LraBenchError: what the estimator gives is not the logarithms of class probabilities.
    """
    found = np.asarray(estimator.log_probabilities(split), dtype=np.float64)  # (n, classes)
    n, num_classes = split.num_examples, split.spec.num_classes
    name = type(estimator).__name__
    if found.shape != (n, num_classes):
        raise LraBenchError(
            f"{name}.log_probabilities gave an array of shape {found.shape} for {n} examples; "
            f"expected ({n}, {num_classes})."
        )
    sums = np.exp(found).sum(axis=1)
    wrong = ~(np.abs(sums - 1) < 1e-3)  # so that NaN counts as wrong
    if wrong.any():
        raise LraBenchError(
            f"{name}.log_probabilities must give logarithms of probabilities, which sum to 1 for each "
            f"example; those of example {int(wrong.argmax())} sum to {sums[wrong.argmax()]:g}."
        )
    labels = split.labels
    losses = -np.maximum(found[np.arange(n), labels], LEAST_LOG_PROBABILITY)
    predictions = found.argmax(axis=1)
    return Evaluation(predictions.astype(np.uint8), labels.astype(np.uint8), float(losses.mean()))
