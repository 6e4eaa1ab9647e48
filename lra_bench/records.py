"""Run records: what a cell leaves behind, field by field; `record_store` has their files.

Unknown keys are refused, so that a typo can't hide a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lra_bench.protocol import Settings

SCHEMA = 1
PARTIAL_SUFFIX = ".partial"
"""Of the folder in which a run in progress keeps its checkpoint and measurements."""

Status = Literal["ok", "oom", "timeout", "diverged", "error", "unsupported"]
StepMode = Literal["train", "forward"]
"""What is measured: a training step, or inference."""
VerdictLabel = Literal["above_controls", "not_above_controls", "chance", "not_compared"]


class Part(BaseModel):
    """Base of a record's parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(Part):
    """Accuracy over n examples at one step; the interval is Wilson's at 95 %.

    Where every token has a label, n counts labelled tokens, and those of one sequence as independent.
    """

    step: int
    """Training step of the weights that were scored."""
    accuracy: float
    correct: int
    """Examples, or labelled tokens, answered rightly."""
    n: int
    """Out of how many."""
    interval: tuple[float, float]
    loss: float
    """Mean cross-entropy in nats."""


class CurvePoint(Part):
    """One evaluation during training."""

    step: int
    train_loss: float
    """Mean over the steps since the point before."""
    validation_accuracy: float
    validation_loss: float
    elapsed_s: float
    """Seconds of training so far."""


class Accuracy(Part):
    """Scores of a trained cell. The headline is `best`: the test score of the best-validation checkpoint."""

    best: Score
    """On the test set, with the weights of the best validation score."""
    last: Score
    """On the test set, with the last weights."""
    validation: Score
    """The best validation score."""
    train: Score
    """On training examples, with the same weights: the gap to `best` is generalisation."""
    curve: list[CurvePoint]
    target_accuracy: float | None
    """Validation accuracy whose reaching is timed, where the protocol sets one."""
    steps_to_target: int | None
    seconds_to_target: float | None
    train_s: float
    """Seconds of training, validation included."""
    predictions_file: str
    """Name of the file beside the record with each test example's prediction."""


class ParameterCount(Part):
    """Parameters in three parts. Position tables hide differences between mixers, so they are apart."""

    embedding: int
    """Token and position tables."""
    length_dependent: int
    """Of the mixers: those whose number follows the longest length."""
    core: int
    """All others."""

    @property
    def total(self) -> int:
        return self.embedding + self.length_dependent + self.core


def model_label(name: str, changed_options: Mapping[str, Any]) -> str:
    """A model as one would write it: its name, and what was changed of its defaults."""
    changes = ", ".join(f"{option}={value}" for option, value in sorted(changed_options.items()))
    return f"{name} ({changes})" if changes else name


class ModelPart(Part):
    """What was run: a registered model, or somebody's own, with its options."""

    name: str
    family: str
    kind: str = ""
    """mixer, encoder, classifier or estimator; the last is fitted and not trained."""
    options: dict[str, Any]
    """All of the variant's own, resolved."""
    changed_options: dict[str, Any]
    """Those that differ from the card's defaults."""
    parameters: ParameterCount
    ratio: float | None
    """Parameters without embeddings relative to the Transformer's under the same settings."""
    ratio_without_length_dependent: float | None
    """The same, with core parameters alone."""
    control: bool
    """A trivial method that others have to beat."""
    source: str = ""
    """Digest of the code of a model that is somebody's own; of a registered one the commit says it."""

    @property
    def label(self) -> str:
        """'linformer', or 'linformer (rank=64)' with changed options."""
        return model_label(self.name, self.changed_options)


class SplitPart(Part):
    """The examples of a split that were used, by SHA-256 over them in index order."""

    examples: int
    sha256: str


class TaskPart(Part):
    """What it was run on, and what is known of the data."""

    name: str
    dataset: str
    """Which data these are; generated and released ones never share a name."""
    variant: str
    """The options in force, readable."""
    parameters: dict[str, Any]
    """Everything that shapes the examples."""
    source: str = ""
    """Digest of the code of a task that is somebody's own."""
    num_classes: int
    chance: float
    """Accuracy of the best guess that ignores the input."""
    metric: str
    max_length: int
    length_quantiles: dict[str, int]
    """Of the training examples' token counts: min, p25, median, p75, max. Empty if no data were prepared."""
    length_histogram: list[int]
    """Counts in ten equal bins from 0 to max_length."""
    truncated_share: float | None
    """Of training examples that lost tokens to max_length."""
    vocabulary_sha256: str
    remarks: list[str] = []
    """What a reader of the score has to know of these data: a recompressed copy, validated on test ..."""
    splits: dict[str, SplitPart]


class ProtocolPart(Part):
    """What was held fixed."""

    name: str
    sha256: str
    """Over everything in it that shapes a result."""
    overrides: dict[str, Any]
    """What was changed of it, by dotted key."""
    tuning_trials: int
    """How many settings were tried for this model."""
    ranks: bool
    """Whether scores under it may be averaged and ranked."""
    settings: Settings


class ControlLevel(Part):
    """A control's score."""

    name: str
    accuracy: float
    n: int
    """Test examples."""
    run_id: str


class Verdict(Part):
    """What a score shows, in plain words."""

    label: VerdictLabel
    text: str
    controls: list[ControlLevel]
    """The task's controls on the same data."""


class StepTimePart(Part):
    """Seconds per training step on a staged batch; see `measure.timing.StepTime`. Every sample is kept."""

    samples_s: list[float]
    cpu_samples_s: list[float]
    device_samples_s: list[float] | None
    first_step_s: float
    warm_up_steps: int
    warmed_up: bool
    median_s: float
    median_low_s: float
    median_high_s: float
    interval_level: float
    mad_s: float
    p05_s: float
    p95_s: float
    min_s: float
    variation: float
    cpu_median_s: float
    others_busy_cores: float | None
    noise: list[str]
    noisy: bool
    batch_size: int
    length: int
    sequences_per_s: float
    tokens_per_s: float
    session: str
    """Times compare only within one measuring session."""


class PeakMemoryPart(Part):
    """Bytes at the peak of one training step; see `measure.memory.PeakMemory`."""

    method: str
    peak_bytes: int
    """Headline. CPU: allocator high-water plus resident state; CUDA: allocated."""
    state_bytes: int
    step_bytes: int
    breakdown: dict[str, int]
    process_peak_bytes: int | None
    reserved_bytes: int | None
    baseline_bytes: int | None
    allocation_retries: int | None
    batch_size: int
    length: int


class FlopsPart(Part):
    """Algorithmic FLOPs of one batch, a multiply-add as two; see `measure.flops.FlopCount`."""

    forward: int
    step: int
    """Forward and backward."""
    uncovered: list[str]
    """Operations that do arithmetic and are not in the totals."""
    batch_size: int
    length: int


class RunRecord(Part):
    """Everything known of one cell."""

    schema_version: int = Field(alias="schema")
    run_id: str
    """Hash of everything that determines the result."""
    status: Status
    reason: str | None
    """Why the status is not ok."""
    verdict: Verdict | None
    """The score beside chance and controls."""
    model: ModelPart
    task: TaskPart
    protocol: ProtocolPart
    seed: int
    precision: Literal["fp32", "bf16"]
    compiled: bool
    """Through torch.compile."""
    device: str
    """Slug: names model, count and memory."""
    metrics: list[str]
    """What was measured: accuracy, time, memory, flops."""
    accuracy: Accuracy | None
    step_time: StepTimePart | None
    peak_memory: PeakMemoryPart | None
    flops: FlopsPart | None
    environment: dict[str, Any]
    """Machine and software, as `lra-bench env` shows them."""
    provenance: dict[str, Any]
    """Command, version, commit, whether the source differed from it, and times."""

    model_config = ConfigDict(populate_by_name=True)

    @property
    def processes(self) -> int:
        """That shared every batch. They don't change the result, but they do its time and memory."""
        return int(self.environment.get("processes", 1))

    @property
    def comparable_step_time(self) -> StepTimePart | None:
        """The step time, if one process took the step: those of several are in no table beside it."""
        return self.step_time if self.processes == 1 else None

    @property
    def comparable_peak_memory(self) -> PeakMemoryPart | None:
        """The peak memory, likewise."""
        return self.peak_memory if self.processes == 1 else None


def wall_seconds(record: RunRecord) -> float | None:
    """From the start to the end of the run that wrote a record, to the second; None where it does not say."""
    try:
        told = record.provenance
        passed = datetime.fromisoformat(told["finished"]) - datetime.fromisoformat(told["started"])
    except (KeyError, ValueError, TypeError):
        return None
    return passed.total_seconds()
