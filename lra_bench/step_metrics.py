"""FLOPs, peak memory and time of one training step of a cell, each measured apart from the others.

The batch is staged: it is on the device before anything is measured, and padded to the full length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from lra_bench.building import build_model
from lra_bench.cell import Cell
from lra_bench.data.batches import Batch, BatchSource
from lra_bench.data.prepare import PreparedSplit
from lra_bench.measure.flops import count_flops
from lra_bench.measure.memory import measure_peak_memory
from lra_bench.measure.timing import measure_step_time
from lra_bench.optimization import build_optimizer, training_step


class StepMetrics:
    """Measures a cell's training step; every method starts from a model of its own.

    Args:
        build: makes the cell's model on its device.
        train: the examples that the staged batch is taken from.
        session: id of the measuring session; times compare only within one.
    """

    def __init__(
        self, cell: Cell, build: Callable[[], nn.Module], train: PreparedSplit, session: str
    ) -> None:
        self.cell = cell
        self.build = build
        self.train = train
        self.spec = train.spec
        self.session = session
        self.device = torch.device(cell.device)
        self.shape = {"batch_size": cell.settings.budget.batch_size, "length": self.spec.max_length}

    def flops(self) -> dict[str, Any]:
        """`records.FlopsPart` as a dictionary. Counted on meta tensors: takes no memory and no data."""
        cell = self.cell
        size = (self.shape["batch_size"], self.shape["length"])
        with torch.device("meta"):
            model = build_model(cell.model_entry, cell.model_options, cell.settings.architecture, self.spec)
            ids = torch.zeros(size, dtype=torch.int64)
            mask = None if self.spec.fixed_length else torch.ones(size, dtype=torch.bool)
        inputs = (ids, mask, ids, mask) if self.spec.paired else (ids, mask)
        return {**count_flops(model, inputs).to_dict(), **self.shape}

    def memory(self) -> dict[str, Any]:
        """`records.PeakMemoryPart` as a dictionary."""
        step, model, optimizer, batch = self._staged_step()
        result = measure_peak_memory(
            step,
            model=model,
            optimizer=optimizer,
            batch=[*batch.inputs, batch.labels],
            device=self.device,
            warm_up_steps=2,
        )
        return {**result.to_dict(), **self.shape}

    def time(self) -> dict[str, Any]:
        """`records.StepTimePart` as a dictionary."""
        step, *_ = self._staged_step()
        result = measure_step_time(step, device=self.device).to_dict()
        rate = self.shape["batch_size"] / result["median_s"]
        tokens = rate * self.shape["length"] * (2 if self.spec.paired else 1)
        return {
            **result,
            **self.shape,
            "sequences_per_s": rate,
            "tokens_per_s": tokens,
            "session": self.session,
        }

    def _staged_step(self) -> tuple[Callable[[], None], nn.Module, torch.optim.Optimizer, Batch]:
        """One training step on a batch that is already on the device, padded to the full length."""
        settings = self.cell.settings
        source = BatchSource(self.train, self.spec, max_length=self.spec.max_length, padding="max")
        batch_size = settings.budget.batch_size
        batch = source.batch(np.arange(batch_size) % source.num_examples).to(self.device)
        model = self.build().train()
        optimizer = build_optimizer(model, settings.optimizer, self.device)
        forward = cast(nn.Module, torch.compile(model)) if self.cell.compiled else model

        def step() -> None:
            training_step(
                forward,
                optimizer,
                batch,
                clip_norm=settings.optimizer.gradient_clip_norm,
                precision=self.cell.precision,
            )

        return step, model, optimizer, batch
