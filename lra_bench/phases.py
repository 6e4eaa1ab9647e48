"""One cell from data to record, phase by phase: data, FLOPs, memory, time, training, scoring, record.

What a phase found is on disk before the next one starts, so a killed run goes on from there. Several
processes may run one cell; all go through the phases, and the first one writes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lra_bench import verdict
from lra_bench.building import build_model
from lra_bench.cell import Cell
from lra_bench.data.batches import Batch, BatchSource
from lra_bench.data.prepare import PreparedSplit, prepare
from lra_bench.data.task import SPLITS, Split, Task
from lra_bench.data_parallel import seed_of_rank
from lra_bench.device_turns import DeviceTurns
from lra_bench.distributed import Group
from lra_bench.errors import CrowdedError, DataError
from lra_bench.estimator import build_estimator
from lra_bench.evaluation import Evaluation, evaluate
from lra_bench.files import is_no_room, unwritable, write_atomically
from lra_bench.fitting import FIT_STEP, Fit
from lra_bench.job import Job
from lra_bench.measure.environment import describe_environment, describe_provenance
from lra_bench.measure.memory import is_out_of_memory
from lra_bench.rank_failures import cause_of_failure, note_failure
from lra_bench.record_parts import evaluation_part, model_part, score_part, task_part
from lra_bench.record_store import write_predictions, write_record
from lra_bench.records import (
    SCHEMA,
    Accuracy,
    FlopsPart,
    PeakMemoryPart,
    ProtocolPart,
    RunRecord,
    Status,
    StepTimePart,
)
from lra_bench.step_metrics import StepMetrics
from lra_bench.threads import timing_threads
from lra_bench.train import (
    CHECKPOINT_EVERY_S,
    DivergedError,
    Progress,
    StoppedError,
    TimeLimitError,
    Trainer,
)

EVENT_INTERVAL_S = 0.1
CHECKPOINT_VARIABLE = "LRA_BENCH_CHECKPOINT_S"

logger = logging.getLogger(__name__)


class CellRun:
    """One cell from data to record; `emit` gets events, `should_stop` is asked between steps and phases.

    group: the processes that run the cell; each makes a run of its own. What the others emit is for nobody.
    """

    def __init__(
        self,
        job: Job,
        emit: Callable[[Mapping[str, Any]], None],
        should_stop: Callable[[], bool],
        group: Group = Group(),  # noqa: B008 - plain and frozen
    ) -> None:
        self.job = job
        self.cell: Cell = job.cell
        self.emit = emit
        self.should_stop = should_stop
        self.group = group
        self.device = torch.device(group.device(self.cell.device))
        self.turns = DeviceTurns(self.device, emit, should_stop, group)
        self.folder = self.cell.partial_folder(job.results)
        self.task: Task = self.cell.build_task()
        self.spec = self.task.spec
        self.started = _now()
        self.splits: dict[Split, PreparedSplit] = {}
        self.sources: dict[Split, BatchSource] = {}
        self.found: dict[str, Any] = {}
        self.accuracy: Accuracy | None = None
        self.test_labels: NDArray[np.uint8] | None = None
        self.fitted_numbers: int | None = None

    def run(self) -> RunRecord:
        """Every way a cell can end, other than being stopped, ends in a record.

        Of several processes the first one gives it; of the others a failure is noted for it and raised.
        """
        status: Status
        reason: str | None
        try:
            status, reason = self._work()
        except StoppedError:
            raise
        except DataError as error:
            if not self.group.is_first:
                note_failure(self.folder, self.group.rank, "error", str(error))
            raise
        except Exception as error:
            if is_no_room(error):
                raise unwritable(self.folder, error) from error
            if is_out_of_memory(error):
                status, reason = "oom", str(error).splitlines()[0]
            else:
                logger.exception("The cell failed")
                status, reason = "error", f"{type(error).__name__}: {error}"
            if not self.group.is_first:
                note_failure(self.folder, self.group.rank, status, reason)
                raise
            if self.group.size > 1:
                status, reason = cause_of_failure(self.folder, status, reason)
            if status == "oom" and not self.job.alone:
                raise CrowdedError(f"out of memory beside others: {reason}") from error
        record = self._record(status, reason)
        if self.group.is_first:
            write_record(self.cell.record_path(self.job.results), record)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.emit({"event": "recorded"})
        return record

    def _work(self) -> tuple[Status, str | None]:
        if self.job.ended is not None:
            self._recall()
            return self.job.ended
        self._prepare_by_turns()
        self._measure()
        if "accuracy" not in self.cell.metrics:
            return "ok", None
        with self.turns.together():
            return self._fit() if self.cell.model_entry.kind == "estimator" else self._train()

    def build(self) -> nn.Module:
        """The cell's model on the default device; the same weights for the same seed, wherever it goes."""
        torch.manual_seed(self.cell.seed)
        return build_model(
            self.cell.model_entry, self.cell.model_options, self.cell.settings.architecture, self.spec
        )

    def staged_batch(self) -> Batch:
        """The batch that is measured: padded to the full length."""
        train, batch_size = self.splits["train"], self.cell.settings.budget.batch_size
        source = BatchSource(train, self.spec, max_length=self.spec.max_length, padding="max")
        return source.batch(np.arange(batch_size) % source.num_examples)

    def _prepare_by_turns(self) -> None:
        """The first process makes what is missing, and the others find it."""
        if self.group.is_first:
            self.prepare()
        self.group.meet()
        if not self.group.is_first:
            self.prepare()
        self.group.meet()

    def prepare(self) -> None:
        """The data of the splits that the cell needs."""
        settings = self.cell.settings
        wanted: dict[Split, int | None] = {
            "train": settings.data.train_examples,
            "validation": settings.evaluation.validation_examples,
            "test": settings.evaluation.test_examples,
        }
        for split in SPLITS:
            if "accuracy" not in self.cell.metrics and split != "train":
                continue
            count = wanted[split]
            available = self.task.split_sizes[split]
            count = available if count is None else min(count, available)
            if "accuracy" not in self.cell.metrics:
                count = min(count, settings.budget.batch_size)

            def progress(done: int, total: int, split: Split = split) -> None:
                self.emit({"event": "prepare", "split": split, "done": done, "total": total})

            self.splits[split] = prepare(
                self.task, split, count, progress=progress, turn=self.turns.preparing
            )
            self.sources[split] = BatchSource(
                self.splits[split],
                self.spec,
                max_length=self.spec.max_length,
                padding="max" if self.cell.compiled else settings.data.padding,
            )
        self.emit(
            {
                "event": "prepared",
                "examples": {name: source.num_examples for name, source in self.sources.items()},
            }
        )

    def _measure(self) -> None:
        """FLOPs, memory and time, in this order and never under one another's instruments."""
        path = self._recall()
        self.found = {**self.group.of_first(self.found), "processes": self.group.size}
        metrics = StepMetrics(
            self.build,
            self.staged_batch,
            self.cell.settings,
            self.spec,
            device=self.device,
            session=f"{self.cell.run_id} {self.started}",
            precision=self.cell.precision,
            compiled=self.cell.compiled,
            group=self.group,
        )

        def timed() -> dict[str, Any]:
            with timing_threads(self.job.threads) as self.found["timing_threads"]:
                return metrics.time()

        phases = {
            "flops": (self.turns.together, metrics.flops),
            "memory": (self.turns.together, metrics.memory),
            "time": (self.turns.alone, timed),
        }
        for name, (turn, phase) in phases.items():
            if name in self.cell.metrics and name not in self.found:
                with turn():
                    self.emit({"event": "phase", "phase": name})
                    self.found[name] = phase()
                if self.group.is_first:
                    write_atomically(path, json.dumps(self.found))
                if any(self.group.numbers_of_first([self.should_stop()])):
                    raise StoppedError("Stopped while measuring; what was measured is kept.")
        self.emit({"event": "measured", **self.found})

    def _recall(self) -> Path:
        """What an earlier attempt has measured; where that is kept."""
        path = self.folder / "measurements.json"
        if self.group.is_first and path.exists():
            self.found = json.loads(path.read_text("utf-8"))
            if self.found.get("processes", 1) != self.group.size:
                # What other processes have taken is not what these would; FLOPs are.
                self.found = {name: self.found[name] for name in ("flops",) if name in self.found}
        return path

    def _train(self) -> tuple[Status, str | None]:
        settings = self.cell.settings
        steps = settings.budget.steps
        last_event = 0.0

        def on_step(step: int, loss: float | None, progress: Progress) -> None:
            nonlocal last_event
            now = time.monotonic()
            evaluated = bool(progress.curve) and progress.curve[-1]["step"] == step
            if now - last_event < EVENT_INTERVAL_S and not evaluated:
                return
            last_event = now
            event = {
                "event": "step",
                "step": step,
                "steps": steps,
                "loss": loss,
                "elapsed_s": progress.elapsed_s,
                "evaluated": evaluated,
                "validation_accuracy": progress.curve[-1]["validation_accuracy"],
            }
            self.emit(event)

        trainer = self.trainer(
            folder=self.folder,
            checkpoint_every_s=float(os.environ.get(CHECKPOINT_VARIABLE, CHECKPOINT_EVERY_S)),
            on_step=on_step,
            should_stop=self.should_stop,
            pause=self.turns.pause,
        )
        status: Status = "ok"
        reason = None
        self.emit({"event": "phase", "phase": "train", "steps": steps})
        try:
            trainer.run()
        except DivergedError as error:
            status, reason = "diverged", str(error)
            if not trainer.best_weights:
                return status, reason
        except TimeLimitError as error:
            status, reason = "timeout", str(error)
        self.emit({"event": "phase", "phase": "score"})
        self.accuracy = self._score(trainer)
        return status, reason

    def trainer(self, **arguments: Any) -> Trainer:
        """A fresh model and what trains it; the data must be prepared. Arguments are those of `Trainer`."""
        model = self.build().to(self.device)
        # Dropout's stream starts here, whatever building drew.
        torch.manual_seed(seed_of_rank(self.cell.seed + 1, self.group.rank))
        return Trainer(
            model,
            self.cell.settings,
            self.sources["train"],
            self.sources["validation"],
            device=self.device,
            seed=self.cell.seed,
            precision=self.cell.precision,
            compiled=self.cell.compiled,
            group=self.group,
            **arguments,
        )

    def evaluation(self, model: nn.Module, split: Split, limit: int | None = None) -> Evaluation:
        """A model's predictions on a prepared split, as the cell is scored."""
        return evaluate(
            model,
            self.sources[split],
            limit=limit,
            batch_size=self.cell.settings.evaluation.batch_size,
            device=self.device,
            precision=self.cell.precision,
            pause=self.turns.pause,
            group=self.group,
        )

    def _score(self, trainer: Trainer) -> Accuracy:
        settings, progress = self.cell.settings.evaluation, trainer.progress

        def on(split: Split, limit: int | None = None) -> Evaluation:
            return self.evaluation(trainer.model, split, limit)

        last = on("test")
        trainer.best_model()
        best = last if progress.best_step == progress.step else on("test")
        self.test_labels = best.labels
        path = self.cell.record_path(self.job.results).with_suffix(".npz")
        if self.group.is_first:
            write_predictions(path, best.predictions, last.predictions, best.labels)
        validation_point = next(p for p in progress.curve if p["step"] == progress.best_step)
        return Accuracy(
            best=evaluation_part(progress.best_step, best),
            last=evaluation_part(progress.step, last),
            validation=score_part(
                progress.best_step,
                progress.best_correct,
                progress.validation_n,
                validation_point["validation_loss"],
            ),
            train=evaluation_part(progress.best_step, on("train", settings.train_examples)),
            curve=progress.curve,
            target_accuracy=settings.target_accuracy,
            steps_to_target=progress.steps_to_target,
            seconds_to_target=progress.seconds_to_target,
            train_s=progress.elapsed_s,
            predictions_file=path.name,
        )

    def _fit(self) -> tuple[Status, str | None]:
        """For estimators. There is no checkpoint: one that was stopped is fitted again from the start."""
        estimator = build_estimator(
            self.cell.model_entry, self.cell.model_options, self.spec, seed=self.cell.seed
        )
        self.emit({"event": "phase", "phase": "train", "steps": FIT_STEP})
        fit = Fit(estimator, self.splits, self.cell.settings, self.emit, self.should_stop, self.turns.pause)
        try:
            fit.run()
        except TimeLimitError as error:
            return "timeout", str(error)
        self.fitted_numbers = estimator.num_parameters
        self.emit({"event": "phase", "phase": "score"})
        test = fit.score("test")
        self.test_labels = test.labels
        path = self.cell.record_path(self.job.results).with_suffix(".npz")
        write_predictions(path, test.predictions, test.predictions, test.labels)
        self.accuracy = fit.accuracy(test, path.name)
        return "ok", None

    def _record(self, status: Status, reason: str | None) -> RunRecord:
        cell = self.cell
        return RunRecord(
            schema_version=SCHEMA,
            run_id=cell.run_id,
            status=status,
            reason=reason,
            verdict=verdict.judge(self.accuracy, self.spec, self.test_labels, self.job.controls),
            model=model_part(cell, self.spec, self.fitted_numbers),
            task=task_part(cell, self.spec, self.splits, self.sources),
            protocol=ProtocolPart(
                name=cell.protocol,
                sha256=cell.protocol_sha256,
                overrides=dict(cell.overrides),
                tuning_trials=cell.tuning_trials,
                ranks=cell.ranks,
                settings=cell.settings,
            ),
            seed=cell.seed,
            precision=cell.precision,
            compiled=cell.compiled,
            device=cell.device_slug,
            metrics=list(cell.metrics),
            accuracy=self.accuracy,
            step_time=_part(StepTimePart, self.found.get("time")),
            peak_memory=_part(PeakMemoryPart, self.found.get("memory")),
            flops=_part(FlopsPart, self.found.get("flops")),
            environment=self._environment(),
            provenance={
                **describe_provenance(self.job.command),
                "started": self.started,
                "finished": _now(),
            },
        )

    def _environment(self) -> dict[str, Any]:
        """The machine's, with what concerns the run: processes that shared it, threads of the timed step."""
        return {
            **describe_environment(self.device),
            "timing_threads": self.found.get("timing_threads"),
            "processes": self.group.size,
        }


def _now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _part(kind: Any, found: Mapping[str, Any] | None) -> Any:
    return None if found is None else kind(**found)
