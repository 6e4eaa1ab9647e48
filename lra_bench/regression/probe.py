"""What a revision finds out about itself, in a process of its own.

Baseline and candidate each run this module from their own import path, so what they must agree on is what
is asked and answered here: JSON, a request at a time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Imported before the fork, so that no process pays for it: optimisers load it late.
import torch._dynamo
import torch.profiler
from torch import Tensor

from lra_bench import registry
from lra_bench.bench.workload import byte_spec, random_batch
from lra_bench.building import build_model, resolve_model_options
from lra_bench.cell import resolve_cell
from lra_bench.data.batches import Batch
from lra_bench.job import Job
from lra_bench.measure.machine import available_cores
from lra_bench.measure.memory import measure_peak_memory
from lra_bench.measure.timing import StepTimer, frozen_collector
from lra_bench.mixer import CONTRACT_ARGUMENTS
from lra_bench.parameters import count_parameters
from lra_bench.phases import CellRun
from lra_bench.protocol import digest
from lra_bench.protocol import load as load_protocol
from lra_bench.regression.calibration import calibration_step
from lra_bench.step_metrics import StepMetrics

ORDER_BATCHES = 4
"""Training batches whose digest stands for the order of the data."""
TRAINED_STEPS = 6
"""Whose losses are kept: enough for two updates after the warm-up's first rates."""

logger = logging.getLogger(__name__)


class Probe:
    """Answers to requests; every method gives what goes into JSON."""

    def __init__(self) -> None:
        self._timer: StepTimer | None = None
        self._quiet = ExitStack()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(available_cores())

    def close(self) -> None:
        """Lets the collector go on."""
        self._quiet.close()

    def exact(self, model: str, task: str, protocol: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `evidence.CellEvidence` that repeat."""
        with tempfile.TemporaryDirectory() as folder:
            run = _cell_run(model, task, protocol, settings, Path(folder))
            cell = run.cell
            run.prepare()
            parameters = count_parameters(
                cell.model_entry, cell.model_options, cell.settings.architecture, run.spec
            )
            metrics = StepMetrics(
                run.build,
                run.staged_batch,
                cell.settings,
                run.spec,
                device=run.device,
                session="check",
            )
            flops = metrics.flops()
            bytes_of_step = metrics.memory()["peak_bytes"]
            untrained = run.build().to(run.device)
            loss = run.evaluation(untrained, "test").loss
            evaluated = measure_peak_memory(
                lambda: run.evaluation(untrained, "validation"), model=untrained, device=run.device
            )
            losses: list[float] = []

            def keep(step: int, loss: float | None, _: Any) -> None:
                losses.append(float(loss or 0.0))

            trainer = run.trainer(
                on_step=keep,
                should_stop=lambda: len(losses) >= TRAINED_STEPS,
            )
            try:
                trainer.run()
            except Exception:
                if len(losses) < TRAINED_STEPS:
                    raise  # being stopped is how this ends
            squares = (one.detach().double().square().sum() for one in trainer.model.parameters())
            norm = math.sqrt(sum(map(float, squares)))
            settings_of_cell = cell.settings.model_dump(mode="json")
            return {
                "parameters": parameters.embedding + parameters.length_dependent + parameters.core,
                "flops": {"step": flops["step"], "forward": flops["forward"]},
                "bytes": {"step": bytes_of_step, "evaluation": evaluated.step_bytes},
                "fingerprints": {
                    **{f"{name} data": split.fingerprint for name, split in run.splits.items()},
                    "order of training": _order(run),
                    "settings": digest(settings_of_cell),
                },
                "outputs": {"evaluation": [loss], "training": losses, "norm": [norm]},
            }

    def learn(
        self, model: str, task: str, protocol: str, settings: Mapping[str, Any], seed: int
    ) -> dict[str, Any]:
        """The fields of `evidence.LearningRun`."""
        with tempfile.TemporaryDirectory() as folder:
            run = _cell_run(model, task, protocol, settings, Path(folder), seed)
            run.prepare()
            losses: list[float] = []
            trainer = run.trainer(on_step=lambda _, loss, __: losses.append(float(loss or 0.0)))
            trainer.run()
            accuracy = run.evaluation(trainer.best_model(), "test").accuracy
            return {"seed": seed, "mean_loss": sum(losses) / len(losses), "accuracy": accuracy}

    def warm_up(
        self, model: str, protocol: str, length: int, batch_size: int, seconds: float
    ) -> dict[str, Any]:
        """Builds a training step on random bytes and runs it until it is steady."""
        entry = registry.models.get(model)
        options = resolve_model_options(entry, {}, CONTRACT_ARGUMENTS)
        overrides = {"budget.batch_size": batch_size}
        settings = load_protocol(protocol).settings("text", control=False, overrides=overrides)
        spec = byte_spec(length, padded=False)

        def build() -> Any:
            torch.manual_seed(0)
            return build_model(entry, options, settings.architecture, spec)

        def batch() -> Batch:
            return random_batch(spec, batch_size)

        metrics = StepMetrics(build, batch, settings, spec, device=torch.device("cpu"), session="check")
        return self._steady(metrics.stage().run, seconds)

    def warm_up_calibration(self, seconds: float) -> dict[str, Any]:
        """The same for the step that stored times are ratios to."""
        return self._steady(calibration_step(), seconds)

    def _steady(self, step: Callable[[], object], seconds: float) -> dict[str, Any]:
        self._quiet.enter_context(frozen_collector())
        self._timer = timer = StepTimer(step, device=torch.device("cpu"))
        timer.warm_up(min_steps=2, min_seconds=seconds / 2, max_seconds=seconds)
        timer.take(1)
        return {"step_s": timer.samples_s[-1]}

    def turn(self, steps: int) -> dict[str, Any]:
        """Seconds of some steps. The first finds the other side's data in the caches; so does the other's."""
        assert self._timer is not None
        before = self._timer.samples
        self._timer.take(steps)
        return {"seconds": self._timer.samples_s[before:]}


def _cell_run(
    model: str, task: str, protocol: str, settings: Mapping[str, Any], folder: Path, seed: int = 0
) -> CellRun:
    cell = resolve_cell(model, task, protocol=protocol, device="cpu", seed=seed, assignments=dict(settings))
    return CellRun(Job(cell, folder), lambda _: None, lambda: False)


def _order(run: CellRun) -> str:
    """SHA-256 over the first training batches, masks and labels included."""
    seen = hashlib.sha256()
    for step in range(ORDER_BATCHES):
        source = run.sources["train"]
        batch = source.training_batch(run.cell.settings.budget.batch_size, run.cell.seed, step)
        for part in (*batch.inputs, batch.labels):
            seen.update(part.numpy().tobytes() if isinstance(part, Tensor) else b"none")
    return seen.hexdigest()


def serve(connection: Connection) -> None:
    """Answers requests {"do": name, ...} until the other side closes: {"ok": ...} or {"reason": ...}."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.set_flush_denormal(True)  # as `bench`: steps on one batch drive moments to denormal numbers
    with closing(Probe()) as probe:
        while True:
            connection.send_bytes(json.dumps(_answer(probe, json.loads(connection.recv_bytes()))).encode())


def _answer(probe: Probe, request: dict[str, Any]) -> dict[str, Any]:
    name = request.pop("do")
    try:
        return {"ok": getattr(probe, name)(**request)}
    except Exception as error:
        logger.exception("The probe failed")
        first_line = (str(error).strip().splitlines() or [""])[0]
        return {"reason": f"{type(error).__name__}: {first_line}"}
