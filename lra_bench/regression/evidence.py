"""What is known of a revision: the baseline file of `check`, checked on reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lra_bench.errors import DataError
from lra_bench.files import write_atomically
from lra_bench.protocol import explain

SCHEMA = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class LearningRun(_Part):
    """One seeded training run."""

    seed: int
    mean_loss: float
    """Mean training loss over all steps: how fast it learned."""
    accuracy: float
    """On the test set, of the best-validation weights."""


class CellEvidence(_Part):
    """What is exact of a model on a task."""

    model: str
    task: str
    failure: str | None = None
    """Why there is nothing: the first line of the error."""
    parameters: int | None = None
    flops: dict[str, int] = {}
    """`step` and `forward`"""
    bytes: dict[str, int] = {}
    """`step` and `evaluation`"""
    fingerprints: dict[str, str] = {}
    """Digests of splits, of the first training batches and of the settings."""
    outputs: dict[str, list[float]] = {}
    """Losses, of an `evaluation` before training and of the first `training` steps; and the `norm` of all
    parameters after these, which a decay that is lost changes long before it changes a loss."""


class ModelLearning(_Part):
    """How a model learns."""

    model: str
    task: str
    failure: str | None = None
    runs: list[LearningRun] = []


class ModelTime(_Part):
    """A model's step time as ratios to the calibration step, one for each pair of processes."""

    model: str
    failure: str | None = None
    calibration: int
    """Version of `calibration`."""
    length: int
    batch_size: int
    logs: list[float] = []
    """Natural logarithms of the ratios."""


class Evidence(_Part):
    """All of a revision."""

    schema_version: int = SCHEMA
    revision: str
    torch: str
    processor: str
    cells: list[CellEvidence] = []
    learning: list[ModelLearning] = []
    times: list[ModelTime] = []

    def cell(self, model: str, task: str) -> CellEvidence | None:
        return next((one for one in self.cells if (one.model, one.task) == (model, task)), None)

    def learned(self, model: str) -> ModelLearning | None:
        return next((one for one in self.learning if one.model == model), None)

    def timed(self, model: str) -> ModelTime | None:
        return next((one for one in self.times if one.model == model), None)

    def alike(self, other: Evidence) -> bool:
        """Whether outputs of both round in the same way."""
        return (self.torch, self.processor) == (other.torch, other.processor)


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Whole or not at all; sorted, so that a committed file changes only where something changed."""
    content: dict[str, Any] = evidence.model_dump()
    content["cells"].sort(key=lambda one: (one["model"], one["task"]))
    for part in ("learning", "times"):
        content[part].sort(key=lambda one: one["model"])
    write_atomically(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_evidence(path: Path) -> Evidence:
    """Raises DataError for a file that is no evidence, with what is wrong."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"--baseline {path}: cannot be read ({error}).") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise DataError(
            f"--baseline {path}: schema {version!r}, expected {SCHEMA}. "
            "Write it again with `lra-bench check --write-baseline`."
        )
    try:
        return Evidence.model_validate(content)
    except ValidationError as error:
        raise DataError(f"--baseline {path}: {explain(error, Evidence)}") from error
