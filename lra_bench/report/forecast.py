"""What cells will take, before they run: time, memory and FLOPs, from the cards' closed forms.

Nothing is measured but the speed of a matrix product. Where there are records of the same model and task on
the same kind of device, what they took corrects the time.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lra_bench.bench.prediction import predicted_peak_bytes
from lra_bench.building import COMMON_OPTIONS
from lra_bench.cell import Cell
from lra_bench.errors import LraBenchError
from lra_bench.parameters import count_parameters
from lra_bench.protocol import Architecture
from lra_bench.records import RunRecord, wall_seconds
from lra_bench.registry import Entry
from lra_bench.report.estimate import counted_step_flops, training_s

BACKWARD = 2
"""Of a product, beside one forward: the gradients of both factors."""


@dataclass(frozen=True)
class Forecast:
    """None where it can't be told."""

    time_s: float | None
    """Of training, or, where records tell, of the whole cell."""
    from_records: bool
    peak_bytes: int | None
    """Of one training step."""
    step_flops: int | None
    """Of one training step."""
    training_flops: int | None


class Forecaster:
    """Forecasts by cell. What cells share is computed once, so hundreds of them take seconds.

    records: of any models; those of the same model, task and kind of device correct a cell's time.
    """

    def __init__(self, records: Iterable[RunRecord] = ()) -> None:
        self._taken: dict[tuple[str, str, str], list[RunRecord]] = {}
        self._shared: dict[str, tuple[int | None, int | None]] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: RunRecord) -> None:
        """Takes a record into account."""
        if record.accuracy is not None and record.status == "ok":
            key = record.model.name, record.task.name, record.device
            self._taken.setdefault(key, []).append(record)

    def __call__(self, cell: Cell) -> Forecast:
        step_flops, peak_bytes = self._costs(cell)
        steps = cell.settings.budget.steps if "accuracy" in cell.metrics else 0
        time_s = self._from_records(cell, step_flops) if steps else None
        from_records = time_s is not None
        if time_s is None and steps and step_flops is not None:
            time_s = training_s(step_flops, steps, cell.device)
        training_flops = None if step_flops is None else step_flops * steps
        return Forecast(time_s, from_records, peak_bytes, step_flops, training_flops)

    def _from_records(self, cell: Cell, step_flops: int | None) -> float | None:
        """What records took for what they had to compute, times what this cell has to."""
        rates = []
        for record in self._taken.get((cell.model, cell.task, cell.device_slug), ()):
            wall_s, settings = wall_seconds(record), record.protocol.settings
            if wall_s is None:
                continue
            flops = closed_form_step_flops(
                cell.model_entry,
                record.model.options,
                settings.architecture,
                length=record.task.max_length,
                batch_size=settings.budget.batch_size,
                paired=cell.build_task().spec.paired,
            )
            # Without a closed form, the same model is taken to cost the same a step.
            rates.append(wall_s / _work(step_flops if flops is None else flops, settings.budget.steps))
        if not rates:
            return None
        return statistics.median(rates) * _work(step_flops, cell.settings.budget.steps)

    def _costs(self, cell: Cell) -> tuple[int | None, int | None]:
        """FLOPs and peak bytes of a step."""
        key = json.dumps(
            [
                *(cell.model, cell.model_options, cell.task, cell.task_parameters),
                *(cell.settings.architecture.model_dump(mode="json"), cell.settings.budget.batch_size),
            ],
            default=str,
        )
        if key not in self._shared:
            self._shared[key] = _step_costs(cell)
        return self._shared[key]


def _step_costs(cell: Cell) -> tuple[int | None, int | None]:
    entry, spec = cell.model_entry, cell.build_task().spec
    architecture, batch_size = cell.settings.architecture, cell.settings.budget.batch_size
    if entry.kind == "estimator":
        return None, None
    shape: dict[str, Any] = {"length": spec.max_length, "batch_size": batch_size}
    flops = closed_form_step_flops(entry, cell.model_options, architecture, paired=spec.paired, **shape)
    if flops is None:
        return counted_step_flops(cell), None
    try:
        own = count_parameters(entry, cell.model_options, architecture, spec)
    except LraBenchError:
        return flops, None
    peak = predicted_peak_bytes(
        entry,
        _own_options(cell.model_options),
        architecture,
        num_parameters=own.embedding + own.length_dependent + own.core,
        length=spec.max_length,
        batch_size=batch_size * (1 + spec.paired),
        mode="train",
    )
    return flops, peak


def closed_form_step_flops(
    entry: Entry,
    options: Any,
    architecture: Architecture,
    *,
    length: int,
    batch_size: int,
    paired: bool,
) -> int | None:
    """Of a training step: the card's form for every layer, its block, and backward as twice forward.

    None for a class without a closed form.
    """
    target = entry.load()
    if entry.kind not in ("mixer", "encoder") or not hasattr(target, "cost"):
        return None
    own = _own_options(options)
    if entry.kind == "encoder":
        forward: float = target.cost(length, architecture, **own).flops
    else:
        core = target.cost(
            length,
            architecture.dim,
            architecture.num_heads,
            head_dim=architecture.head_dim,
            max_length=length,
            **own,
        ).flops
        feed_forward = 4 * length * architecture.dim * architecture.ffn_dim
        forward = architecture.num_layers * (core + feed_forward)
    return round((1 + BACKWARD) * forward * batch_size * (1 + paired))


def _own_options(options: Any) -> dict[str, Any]:
    """Without those that every model has: closed forms don't know them."""
    return {name: value for name, value in options.items() if name not in COMMON_OPTIONS}


def _work(step_flops: int | None, steps: int) -> int:
    """What a cell's time is proportional to; the number of steps where they have no FLOPs."""
    return max(step_flops or 1, 1) * steps
