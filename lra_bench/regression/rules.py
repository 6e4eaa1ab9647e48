"""What `check` compares and how much may change: a YAML file, or the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lra_bench.errors import UsageError
from lra_bench.protocol import explain

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExactRules(_Section):
    """What repeats: an increase beyond these shares of the baseline is a regression."""

    parameters: Share = 0.0
    flops: Share = 0.0
    bytes: Share = 0.01
    outputs: Share = 1e-5
    """Relative difference of losses, on the same kind of processor under the same torch; rounding of a
    reordered sum is about 1e-7."""
    outputs_elsewhere: Share = 1e-3
    """The same between processors or versions of torch."""
    settings: dict[str, Any] = Field(
        default_factory=lambda: {
            "data.train_examples": 256,
            "evaluation.validation_examples": 64,
            "evaluation.test_examples": 128,
            "budget.batch_size": 8,
            # So that dropout which is left on in evaluation changes something.
            "architecture.dropout": 0.1,
        }
    )
    """Of the cells that are measured, as for `--set`."""


class TimeRules(_Section):
    """Step time, baseline and candidate side by side."""

    within: Share = 0.05
    """The same if the interval of the ratio lies within this share of 1."""
    at_least: Share = 0.03
    """Slower, or faster, if the whole interval is farther from 1 than this."""
    stored_within: Share = 0.15
    stored_at_least: Share = 0.15
    """The same two against a stored baseline. Wider, as ratios of equal code drift between days: by up to
    11 % on one machine, where one side is bound by memory and the other by arithmetic."""
    baseline_pairs: Annotated[int, Field(ge=4)] = 12
    """Measured for a baseline that is stored."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """Of an interval over all looks at it together."""
    budget_s: Annotated[float, Field(gt=0)] = 90.0
    """For each model."""
    length: Annotated[int, Field(ge=1)] = 1024
    batch_size: Annotated[int, Field(ge=1)] = 1


class LearningRules(_Section):
    """Short training runs, against the spread of the baseline over seeds."""

    models: list[str] | None = None
    """Of those that are checked; all by default."""
    task: str = "recall"
    seeds: Annotated[int, Field(ge=1)] = 3
    baseline_seeds: Annotated[int, Field(ge=2)] = 5
    deviations: Share = 3.0
    """Standard deviations of the baseline by which a mean may be worse."""
    accuracy_floor: Share = 0.02
    """What a mean accuracy may lose however small the spread is."""
    loss_floor: Share = 0.03
    """What the mean training loss may gain, as a share, however small the spread is."""
    settings: dict[str, Any] = Field(
        default_factory=lambda: {
            "task.length": 32,
            "task.num_pairs": 4,
            "task.num_keys": 8,
            "task.num_values": 8,
            "data.train_examples": 16000,
            "evaluation.validation_examples": 256,
            "evaluation.test_examples": 256,
            "budget.steps": 250,
            "budget.batch_size": 64,
            "budget.evaluate_every": 50,
        }
    )


class Rules(_Section):
    """Everything; see the sections."""

    models: list[str] = ["transformer"]
    tasks: list[str] = ["listops", "recall"]
    """Of the exact class."""
    protocol: str = "quick"
    threads: Annotated[int, Field(ge=1)] = 1
    """Of each process. With one, a busy core beside it changes little, and sums round alike on any number of
    cores; with more, a step waits for whichever core is late."""
    exact: ExactRules = ExactRules()
    time: TimeRules = TimeRules()
    learning: LearningRules = LearningRules()


def load_rules(path: Path | None) -> Rules:
    """The rules of a file; what it leaves out has its default.

    Raises:
        UsageError: no such file, no YAML, an unknown key or a value out of range.
    """
    if path is None:
        return Rules()
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"--rules {path}: {error.strerror}. Name a YAML file, or leave --rules out."
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(f"--rules {path}: not YAML: {error}") from error
    try:
        return Rules.model_validate(content or {})
    except ValidationError as error:
        raise UsageError(f"--rules {path}: {explain(error, Rules)}") from error
