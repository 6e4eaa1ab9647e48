"""Parts of a record that say what was run: the model, the task and its data, a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from lra_bench import registry
from lra_bench.cell import Cell
from lra_bench.data.batches import BatchSource
from lra_bench.data.prepare import PreparedSplit
from lra_bench.data.task import Split, TaskSpec
from lra_bench.evaluation import Evaluation
from lra_bench.parameters import Parameters, count_parameters
from lra_bench.records import ModelPart, ParameterCount, Score, SplitPart, TaskPart
from lra_bench.stats import wilson_interval


def score_part(step: int, correct: int, n: int, loss: float) -> Score:
    """Accuracy with Wilson's interval."""
    bounds = wilson_interval(correct, n)
    return Score(
        step=step, accuracy=correct / n, correct=correct, n=n, interval=(bounds.low, bounds.high), loss=loss
    )


def evaluation_part(step: int, result: Evaluation) -> Score:
    """The score of an evaluation at a training step."""
    return score_part(step, result.correct, result.n, result.loss)


def model_part(cell: Cell, spec: TaskSpec, fitted_numbers: int | None = None) -> ModelPart:
    """The model with its options and parameters, beside the Transformer's under the same settings.

    fitted_numbers: of an estimator, which has them only once it is fitted; 0 is recorded before.
    """
    entry = cell.model_entry
    architecture = cell.settings.architecture
    if entry.kind == "estimator":
        own = Parameters(embedding=0, length_dependent=0, core=fitted_numbers or 0)
    else:
        own = count_parameters(entry, cell.model_options, architecture, spec)
    ratio = without = None
    if entry.kind not in ("classifier", "estimator"):
        base_entry = registry.models.get("transformer")
        base = count_parameters(base_entry, {}, architecture, spec)
        ratio = (own.core + own.length_dependent) / (base.core + base.length_dependent)
        without = own.core / base.core
    return ModelPart(
        name=cell.model,
        family=entry.family,
        kind=entry.kind,
        options=dict(cell.model_options),
        changed_options=cell.changed_options,
        parameters=ParameterCount(**asdict(own)),
        ratio=ratio,
        ratio_without_length_dependent=without,
        control=entry.is_control,
        source=cell.sources.get("model", ""),
    )


def task_part(
    cell: Cell,
    spec: TaskSpec,
    splits: Mapping[Split, PreparedSplit],
    sources: Mapping[Split, BatchSource],
) -> TaskPart:
    """The task with what is known of its data; a cell can end before there are any."""
    quantiles: dict[str, int] = {}
    histogram: list[int] = []
    if "train" in splits:
        lengths = splits["train"].lengths
        found = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1], method="nearest").astype(int)
        quantiles = dict(zip(("min", "p25", "median", "p75", "max"), found.tolist(), strict=True))
        histogram = np.histogram(lengths, bins=10, range=(0, spec.max_length))[0].tolist()
    return TaskPart(
        name=cell.task,
        dataset=spec.dataset,
        variant=spec.variant,
        parameters=dict(cell.task_parameters),
        source=cell.sources.get("task", ""),
        num_classes=spec.num_classes,
        chance=spec.chance,
        metric=spec.metric,
        max_length=spec.max_length,
        length_quantiles=quantiles,
        length_histogram=histogram,
        truncated_share=sources["train"].truncated_share if "train" in sources else None,
        vocabulary_sha256=spec.vocabulary_sha256,
        remarks=list(spec.remarks),
        splits={
            name: SplitPart(examples=split.num_examples, sha256=split.fingerprint)
            for name, split in splits.items()
        },
    )
