"""Tuning with equal budgets: every model gets the same number of tries at the same settings.

A trial is a cell with another learning rate and weight decay, trained with seed 0 and scored on validation.
The list of trials is fixed: the protocol's own values first, then points spread log-uniformly around them,
the same multiples for every model. A longer list begins with a shorter one, so that no trial is lost when
more are asked for. Trials have a results folder of their own, which no table reads.

What was chosen is written down once and read from then on, so that a sweep that is run again later makes
the same choice, whatever has become of the trials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.cell import Cell
from lra_bench.errors import DataError
from lra_bench.files import write_atomically
from lra_bench.launch.standing import standing
from lra_bench.protocol import digest
from lra_bench.records import RunRecord

SPREAD = 10.0
"""Trials lie between the protocol's value divided and multiplied by this."""
LIST_SEED = 20201109
TRIAL_SEED = 0
DIGITS = 3
TUNED = ("optimizer.learning_rate", "optimizer.weight_decay")


@dataclass(frozen=True)
class Choice:
    """Which trial was the best, and what it had."""

    trial: int
    """From 0, the protocol's own values."""
    learning_rate: float
    weight_decay: float


def multiples(trials: int) -> list[tuple[float, float]]:
    """(of the learning rate, of the weight decay) for each trial; (1, 1) first."""
    drawn = np.random.default_rng(LIST_SEED).uniform(-1.0, 1.0, (max(trials - 1, 0), 2))
    others = [(SPREAD ** float(rate), SPREAD ** float(decay)) for rate, decay in drawn]
    return [(1.0, 1.0), *others][:trials]


def can_be_tuned(cell: Cell) -> bool:
    """Controls are what others are measured by, and an estimator has no learning rate."""
    entry = cell.model_entry
    return "accuracy" in cell.metrics and not entry.is_control and entry.kind != "estimator"


def trial_cells(cell: Cell, trials: int) -> list[Cell]:
    """The cells to try for a model, its options and a task; the same for every seed and every metric."""
    optimizer = cell.settings.optimizer
    cells = []
    for number, (of_rate, of_decay) in enumerate(multiples(trials)):
        rate, decay = (
            float(f"{value:.{DIGITS}g}")
            for value in (optimizer.learning_rate * of_rate, optimizer.weight_decay * of_decay)
        )
        changes = dict(zip(TUNED, (rate, decay), strict=True)) if number else {}
        tried = _with_rates(cell, rate, decay) if number else cell
        overrides = {**cell.overrides, **changes}
        cells.append(replace(tried, overrides=overrides, seed=TRIAL_SEED, metrics=("accuracy",)))
    return cells


def trials_folder(results: Path) -> Path:
    """A results folder of its own within another."""
    return results / "tuning"


def tuned_cell(cell: Cell, choice: Choice, trials: int) -> Cell:
    """The cell with what was chosen. The rates are no overrides: they are what tuning is about."""
    tuned = _with_rates(cell, choice.learning_rate, choice.weight_decay)
    overrides = {key: value for key, value in cell.overrides.items() if key not in TUNED}
    return replace(tuned, overrides=overrides, tuning_trials=trials)


def _with_rates(cell: Cell, learning_rate: float, weight_decay: float) -> Cell:
    rates = {"learning_rate": learning_rate, "weight_decay": weight_decay}
    optimizer = cell.settings.optimizer.model_copy(update=rates)
    return replace(cell, settings=cell.settings.model_copy(update={"optimizer": optimizer}))


def choose(trials: Sequence[Cell], results: Path) -> Choice:
    """The trial with the best validation score, the earlier one of equals; as written down, if it was.

    Where no trial has a score the protocol's own values stay.

    Raises:
        DataError: a trial has no record. StorageError: the choice can't be written down.
    """
    path = choice_path(trials, results)
    try:
        return Choice(**json.loads(path.read_text("utf-8"))["choice"])
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: what tuning has chosen cannot be read. Remove it to choose again."
        ) from None
    records = []
    for trial in trials:
        record = standing(trial, trials_folder(results)).record
        if record is None:
            raise DataError(f"A trial of {trial.model} on {trial.task} has no record, so none can be chosen.")
        records.append(record)
    scores = [_validation(record) for record in records]
    best = max(range(len(trials)), key=lambda number: (scores[number], -number))
    optimizer = trials[best].settings.optimizer
    choice = Choice(best, optimizer.learning_rate, optimizer.weight_decay)
    write_atomically(path, json.dumps(_written(choice, trials, records), indent=1) + "\n")
    return choice


def chosen_before(cell: Cell, trials: Sequence[Cell], results: Path) -> Cell:
    """A cell with what an earlier sweep has chosen for it; as it is where none has, or nothing is tuned."""
    if not trials or not choice_path(trials, results).exists():
        return cell
    return tuned_cell(cell, choose(trials, results), len(trials))


def _validation(record: RunRecord) -> float:
    """A run that diverged or ran out of time is not chosen, even where it has a score."""
    if record.status != "ok" or record.accuracy is None:
        return -1.0
    return record.accuracy.validation.accuracy


def choice_path(trials: Sequence[Cell], results: Path) -> Path:
    """tuning/choices/<device>/<protocol>/<task>/<model>/<digest of the trials>.json"""
    folder = trials_folder(results)
    place = trials[0].record_path(folder).relative_to(folder / "runs").parent
    return folder / "choices" / place / f"{digest([trial.run_id for trial in trials])[:16]}.json"


def _written(choice: Choice, trials: Sequence[Cell], records: Sequence[RunRecord]) -> Mapping[str, Any]:
    return {
        "choice": vars(choice),
        "trials": [
            {
                "run": record.run_id,
                "learning_rate": trial.settings.optimizer.learning_rate,
                "weight_decay": trial.settings.optimizer.weight_decay,
                "status": record.status,
                "validation_accuracy": record.accuracy and record.accuracy.validation.accuracy,
            }
            for trial, record in zip(trials, records, strict=True)
        ],
    }
