"""FLOPs, peak memory and time of one step of a model, each measured apart from the others.

The batch is staged: it is on the device before anything is measured, and padded to the full length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lra_bench.data.batches import Batch
from lra_bench.data.task import TaskSpec
from lra_bench.data_parallel import part_of_loss
from lra_bench.distributed import Group
from lra_bench.measure.flops import count_flops
from lra_bench.measure.memory import measure_peak_memory
from lra_bench.measure.timing import StepTime, measure_step_time
from lra_bench.optimization import autocast, build_optimizer, training_step
from lra_bench.protocol import Settings
from lra_bench.records import StepMode
from lra_bench.shapes import shapes_only


@dataclass(frozen=True)
class StagedStep:
    """A step that is ready to be measured; it returns the loss, or the logits of a forward step."""

    run: Callable[[], Tensor]
    model: nn.Module
    optimizer: Optimizer | None
    batch: Batch


class StepMetrics:
    """Measures a model's training step, or its forward pass alone.

    Args:
        build: makes the model on the default device, with the same weights each time.
        batch: makes the batch that all measurements share.
        mode: train is forward, backward, clipping, update and clearing; forward is inference.
        session: id of the measuring session; times compare only within one.
        group: the processes that take the step together, each with its part of the batch. Time is the slowest
            one's and memory the largest one's; FLOPs, batch size and rates are those of the whole batch.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        batch: Callable[[], Batch],
        settings: Settings,
        spec: TaskSpec,
        *,
        device: torch.device,
        session: str,
        precision: str = "fp32",
        compiled: bool = False,
        mode: StepMode = "train",
        group: Group = Group(),  # noqa: B008 - plain and frozen
    ) -> None:
        self.build = build
        self.batch = batch
        self.settings = settings
        self.spec = spec
        self.device = device
        self.session = session
        self.precision = precision
        self.compiled = compiled
        self.mode = mode
        self.group = group
        self.shape = {"batch_size": settings.budget.batch_size, "length": spec.max_length}

    def flops(self) -> dict[str, Any]:
        """`records.FlopsPart` as a dictionary. Counted on meta tensors: takes no memory and no data."""
        size = (self.shape["batch_size"], self.shape["length"])
        with shapes_only():
            model = self.build()
            ids = torch.zeros(size, dtype=torch.int64)
            mask = None if self.spec.fixed_length else torch.ones(size, dtype=torch.bool)
        inputs = (ids, mask, ids, mask) if self.spec.paired else (ids, mask)
        counted = count_flops(model, inputs).to_dict()
        if self.mode == "forward":
            counted["step"] = counted["forward"]
        return {**counted, **self.shape}

    def memory(self, staged: StagedStep | None = None, *, warm_up_steps: int = 2) -> dict[str, Any]:
        """`records.PeakMemoryPart` as a dictionary. A staged step that ran before needs no warm-up."""
        staged = staged or self.stage()
        result = measure_peak_memory(
            staged.run,
            model=staged.model,
            optimizer=staged.optimizer,
            batch=[*staged.batch.inputs, staged.batch.labels],
            device=self.device,
            warm_up_steps=warm_up_steps,
        )
        largest = max(self.group.gathered(result.to_dict()), key=lambda one: int(one["peak_bytes"]))
        return {**largest, **self.shape}

    def time(self) -> dict[str, Any]:
        """`records.StepTimePart` as a dictionary."""
        step = self.stage().run
        return self.timed(measure_step_time(step, device=self.device, slowest=self.group.largest))

    def timed(self, result: StepTime) -> dict[str, Any]:
        """A timing with the rates that follow from it."""
        rate = self.shape["batch_size"] / result.median_s
        tokens = rate * self.shape["length"] * (2 if self.spec.paired else 1)
        return {
            **result.to_dict(),
            **self.shape,
            "sequences_per_s": rate,
            "tokens_per_s": tokens,
            "session": self.session,
        }

    def stage(self) -> StagedStep:
        """The model, its optimiser and the batch on the device, and one step of them."""
        batch = self.batch().part(self.group.rank, self.group.size).to(self.device)
        model = self.build().to(self.device)
        forward = cast(nn.Module, torch.compile(model)) if self.compiled else model
        if self.mode == "forward":
            model.eval()

            def inference() -> Tensor:
                with torch.inference_mode(), autocast(self.device, self.precision):
                    logits: Tensor = forward(*batch.inputs)
                return logits

            return StagedStep(inference, model, None, batch)
        optimizer = build_optimizer(model.train(), self.settings.optimizer, self.device)
        part = part_of_loss(forward, self.group)

        def training() -> Tensor:
            return training_step(
                forward,
                optimizer,
                batch,
                clip_norm=self.settings.optimizer.gradient_clip_norm,
                precision=self.precision,
                part_of_loss=part,
            )

        return StagedStep(training, model, optimizer, batch)
