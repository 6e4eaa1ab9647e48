"""Run records: what a cell leaves behind. Schema, validation, atomic store, migration.

One JSON file per run. Unknown keys are refused, so that a typo can't hide a number; per-example
predictions stand beside it in `<run-id>.npz` for paired comparisons.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lra_bench.errors import DataError, UsageError
from lra_bench.files import atomic_path, write_atomically
from lra_bench.protocol import Settings

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
PARTIAL_SUFFIX = ".partial"
"""Of the folder in which a run in progress keeps its checkpoint and measurements."""

Status = Literal["ok", "oom", "timeout", "diverged", "error", "unsupported"]
StepMode = Literal["train", "forward"]
"""What is measured: a training step, or inference."""
VerdictLabel = Literal["above_controls", "not_above_controls", "chance", "not_compared"]

logger = logging.getLogger(__name__)


class Part(BaseModel):
    """Base of a record's parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)


PartT = TypeVar("PartT", bound=Part)


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


def write_record(path: Path, record: RunRecord) -> None:
    """Atomically; the folder is made."""
    write_atomically(path, record_text(record))


def record_text(record: Part) -> str:
    """The text of a record's file."""
    return json.dumps(record.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False) + "\n"


def read_record(path: Path) -> RunRecord:
    """Raises DataError, naming the file, where it is damaged, of another schema or has unknown keys."""
    return read_part(path, RunRecord, migrate)


def read_part(path: Path, kind: type[PartT], migrated: Callable[[Any], Any]) -> PartT:
    """A record's file, checked; `migrated` brings its content up to the present schema.

    Raises:
        DataError: as for `read_record`.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        return kind.model_validate(migrated(content))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: not a record (no UTF-8 text). Move it away and run the cell again."
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not a record (JSON breaks at line {error.lineno}). Move it away and run the cell again."
        ) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise DataError(f"{path}: not a valid record: {where}: {fault['msg']}.") from None
    except (UsageError, DataError) as error:
        raise DataError(f"{path}: {error}") from None


def migrate(content: Any) -> Any:
    """Brings a record of an older schema up to the present one. There is only one so far."""
    version = content.get("schema") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise UsageError(
            f"schema {version!r} is not known to this version, which reads schema {SCHEMA}. "
            "Update lra-bench, or check that the file is a run record."
        )
    return content


def record_files(results: Path) -> Iterator[Path]:
    """Record files below a results folder, in a fixed order; not what a run in progress keeps."""
    yield from (
        path for path in sorted((results / "runs").rglob("*.json")) if path.parent.suffix != PARTIAL_SUFFIX
    )


def load_records(
    results: str | Path | Sequence[str | Path] = "results",
    *,
    faults: list[DataError] | None = None,
    paths: dict[str, Path] | None = None,
    conflicts: list[str] | None = None,
) -> list[RunRecord]:
    """All valid records below one or several results folders.

    Args:
        faults: collects the errors of damaged files; without it the first one is raised.
        paths: collects where each record lies, by run id.
        conflicts: collects a sentence for each run of which two folders say different things; that of the
            first folder counts.
    """
    folders = [results] if isinstance(results, str | Path) else list(results)
    records: dict[str, RunRecord] = {}
    places: dict[str, Path] = {} if paths is None else paths
    for folder in folders:
        for path in record_files(Path(folder)):
            try:
                record = read_record(path)
            except DataError as error:
                if faults is None:
                    raise
                faults.append(error)
            else:
                known = records.setdefault(record.run_id, record)
                first = places.setdefault(record.run_id, path)
                if conflicts is not None and (difference := _difference(known, record)):
                    conflicts.append(f"{record.run_id}: {first} and {path} have {difference}.")
    return list(records.values())


def _difference(one: RunRecord, other: RunRecord) -> str:
    """What two records of one run disagree about that a rerun would repeat: not times, not the machine."""
    if one.status != other.status:
        return f"status {one.status} and {other.status}"
    if (one.accuracy is None) != (other.accuracy is None):
        return "a score and none"
    if one.accuracy and other.accuracy and one.accuracy.best != other.accuracy.best:
        return f"accuracy {one.accuracy.best.accuracy:.4f} and {other.accuracy.best.accuracy:.4f}"
    return ""


def records_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per record and one column per field, nested names joined with dots; without long lists."""
    import pandas as pd

    rows = [record.model_dump(mode="json", by_alias=True) for record in records]
    frame = pd.json_normalize(rows)
    heavy = [name for name in frame.columns if name.endswith((".curve", "samples_s", ".length_histogram"))]
    return frame.drop(columns=heavy)


def write_predictions(path: Path, best: np.ndarray, last: np.ndarray, labels: np.ndarray) -> None:
    """Packs predicted classes of the test examples, in index order, beside the record."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, best=best.astype(np.uint8), last=last.astype(np.uint8), labels=labels.astype(np.uint8)
        )


def read_correct(path: Path, record: RunRecord) -> NDArray[np.bool_] | None:
    """(test examples,), True where the best-validation weights were right; None without score or predictions.

    Args:
        path: of the record, beside which its predictions lie.
    """
    if record.accuracy is None:
        return None
    beside = path.with_name(record.accuracy.predictions_file)
    if not beside.exists():
        return None
    found = read_predictions(beside)
    correct: NDArray[np.bool_] = found["best"] == found["labels"]
    return correct


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """`best`, `last` and `labels`, uint8 of shape (test examples,)."""
    try:
        with np.load(path) as packed:
            return {name: packed[name] for name in ("best", "last", "labels")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: predictions cannot be read ({error}).") from None
