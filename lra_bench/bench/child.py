"""The process of one cell: built once, measured phase by phase as it is asked, asleep in between.

Its measuring session wakes the processes of a group by turns, so that what disturbs the machine disturbs all
of them alike.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

# Imported before the fork, so that no cell pays for it: optimisers and the compiler load it late.
import torch._dynamo
import torch.profiler
from torch import nn

from lra_bench import registry
from lra_bench.bench.checkpointing import CheckpointingError, refused
from lra_bench.bench.kernels import fused_kernels
from lra_bench.bench.prediction import describe_cell
from lra_bench.bench.workload import byte_spec, random_batch
from lra_bench.building import build_model
from lra_bench.errors import UsageError
from lra_bench.measure.machine import available_bytes, available_cores
from lra_bench.measure.memory import is_out_of_memory
from lra_bench.measure.timing import StepTime, StepTimer, pooled
from lra_bench.memory_limit import limit_memory
from lra_bench.optimization import autocast
from lra_bench.protocol import Settings
from lra_bench.step_metrics import StagedStep, StepMetrics

WARM_UP_SECONDS = 0.7

logger = logging.getLogger(__name__)


class MeasuredCell:
    """One cell in its own process. Every method answers with what goes into JSON."""

    def __init__(
        self,
        *,
        model: str,
        options: Mapping[str, Any],
        settings: Mapping[str, Any],
        length: int,
        device: str,
        precision: str,
        compiled: bool,
        mode: Any,
        padded: bool,
        session: str,
        seed: int = 0,
    ) -> None:
        self.entry = registry.models.get(model)
        self.options = options
        self.settings = Settings.model_validate(settings)
        self.spec = byte_spec(length, padded=padded)
        self.device = torch.device(device)
        self.precision = precision
        self.compiled = compiled
        self.seed = seed
        self.metrics = StepMetrics(
            self.build,
            lambda: random_batch(self.spec, self.settings.budget.batch_size),
            self.settings,
            self.spec,
            device=self.device,
            session=session,
            precision=precision,
            compiled=compiled,
            mode=mode,
        )
        self._staged: StagedStep | None = None
        self._timer: StepTimer | None = None
        limit_memory(self.device)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(available_cores())

    def build(self) -> nn.Module:
        """The classifier on the default device, the same weights for the same seed."""
        torch.manual_seed(self.seed)
        return build_model(self.entry, self.options, self.settings.architecture, self.spec)

    def describe(self) -> dict[str, Any]:
        """Parameters, their ratio to the Transformer's, and the predicted peak; takes no memory."""
        described = describe_cell(self.entry, self.options, self.settings, self.spec, self.metrics.mode)
        return {**described, "available_bytes": self._available_bytes()}

    def flops(self) -> dict[str, Any]:
        """`records.FlopsPart`"""
        return self.metrics.flops()

    def warm_up(self, min_steps: int, max_seconds: float) -> dict[str, Any]:
        """First steps, compilation included, until they are steady; the loss must be finite after them."""
        self._staged = staged = self.metrics.stage()
        outcome = torch.empty(0)

        def step() -> None:
            nonlocal outcome
            outcome = staged.run()

        self._timer = timer = StepTimer(step, device=self.device)
        timer.warm_up(min_steps=min_steps, min_seconds=WARM_UP_SECONDS, max_seconds=max_seconds)
        if not bool(torch.isfinite(outcome).all()):
            raise FloatingPointError("the loss is not finite after the first steps")
        gradients = torch.set_grad_enabled(self.metrics.mode == "train")
        with gradients, autocast(self.device, self.precision):
            kernels = fused_kernels(staged.model, staged.batch.inputs)
        backend = "compiled" if self.compiled else "fused" if kernels else "eager"
        return {"backend": backend, "kernels": kernels}

    def memory(self) -> dict[str, Any]:
        """`records.PeakMemoryPart`"""
        return self.metrics.memory(self._ready()[0], warm_up_steps=0)

    def turn(self, steps: int, settle_steps: int) -> dict[str, Any]:
        """Times some steps; their seconds, and the cell is asleep again."""
        _, timer = self._ready()
        before = timer.samples
        timer.take(steps, settle_steps=settle_steps)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the next cell in turn may need it
        return {"seconds": timer.samples_s[before:]}

    def timing(self) -> dict[str, Any]:
        """The fields of `timing.StepTime`, of the turns that this process had."""
        return asdict(self._ready()[1].result())

    def result(self, earlier: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """`records.StepTimePart`, of all turns; `earlier` is what other processes of this cell had timed."""
        before = [StepTime(**one) for one in earlier]
        return self.metrics.timed(pooled([*before, self._ready()[1].result()]))

    def _ready(self) -> tuple[StagedStep, StepTimer]:
        if self._staged is None or self._timer is None:
            raise UsageError("MeasuredCell: nothing is built yet. Ask for warm_up first.")
        return self._staged, self._timer

    def _available_bytes(self) -> int | None:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return available_bytes()


def serve(connection: Connection) -> None:
    """Answers requests {"do": name, ...} until the other side closes; the first one is `open`.

    An answer is {"ok": ...}, or {"status": ..., "reason": ...} for a cell that can't go on.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Steps on one batch drive the loss to zero, and the optimiser's moments below the smallest normal number,
    # where a processor is many times slower: linformer at 16,384 tokens from 0.14 to 0.85 s after 30 steps.
    torch.set_flush_denormal(True)
    cell: MeasuredCell | None = None
    with refused():
        while True:
            request = json.loads(connection.recv_bytes())
            name = request.pop("do")
            try:
                if name == "open":
                    cell = MeasuredCell(**request)
                    answer: dict[str, Any] = {"ok": {}}
                else:
                    method: Callable[..., Any] = getattr(cell, name)
                    answer = {"ok": method(**request)}
            except Exception as error:
                answer = _failure(error)
            connection.send_bytes(json.dumps(answer).encode())


def _failure(error: Exception) -> dict[str, str]:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if is_out_of_memory(error):
        return {"status": "oom", "reason": first_line}
    if isinstance(error, CheckpointingError | UsageError):
        return {"status": "unsupported", "reason": first_line}
    if isinstance(error, FloatingPointError):
        return {"status": "diverged", "reason": first_line}
    logger.exception("The cell failed")
    return {"status": "error", "reason": f"{type(error).__name__}: {first_line}"}
