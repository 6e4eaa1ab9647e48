"""Trains and measures one cell, in a child process of its own.

Phases, each kept apart from the others: data, FLOPs, memory, time, training, scoring, record. What
a phase found is on disk before the next one starts, so a killed run goes on from there.

Reads a job (`launch.local.Job`) as JSON from standard input and sends events, a JSON object a line,
to standard output. Exit codes are those of the command line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lra_bench import registry, verdict
from lra_bench.cell import Cell
from lra_bench.data.batches import Batch, BatchSource
from lra_bench.data.prepare import PreparedSplit, prepare
from lra_bench.data.task import SPLITS, Split, Task
from lra_bench.encoder import build_model
from lra_bench.errors import DataError, LraBenchError
from lra_bench.files import TEMPORARY_SUFFIX, write_atomically
from lra_bench.job import Job
from lra_bench.measure.environment import describe_environment, describe_provenance
from lra_bench.measure.flops import count_flops
from lra_bench.measure.machine import available_cores
from lra_bench.measure.memory import is_out_of_memory, measure_peak_memory
from lra_bench.measure.timing import measure_step_time
from lra_bench.parameters import count_parameters
from lra_bench.records import (
    SCHEMA,
    Accuracy,
    FlopsPart,
    ModelPart,
    ParameterCount,
    PeakMemoryPart,
    ProtocolPart,
    RunRecord,
    Score,
    SplitPart,
    Status,
    StepTimePart,
    TaskPart,
    write_predictions,
    write_record,
)
from lra_bench.stats import wilson_interval
from lra_bench.train import (
    CHECKPOINT_EVERY_S,
    DivergedError,
    Evaluation,
    Progress,
    StoppedError,
    TimeLimitError,
    Trainer,
    build_optimizer,
    evaluate,
    training_step,
)

EVENT_INTERVAL_S = 0.1
CHECKPOINT_VARIABLE = "LRA_BENCH_CHECKPOINT_S"
MEMORY_SHARE = 0.95
"""Of the memory that is free at the start, what the worker may take before it ends as `oom`."""

logger = logging.getLogger(__name__)


class Worker:
    """One cell from data to record."""

    def __init__(
        self,
        job: Job,
        emit: Callable[[Mapping[str, Any]], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.job = job
        self.cell: Cell = job.cell
        self.emit = emit
        self.should_stop = should_stop
        self.device = torch.device(self.cell.device)
        self.folder = self.cell.partial_folder(job.results)
        self.task: Task = self.cell.build_task()
        self.spec = self.task.spec
        self.started = _now()
        self.splits: dict[Split, PreparedSplit] = {}
        self.sources: dict[Split, BatchSource] = {}
        self.found: dict[str, Any] = {}
        self.accuracy: Accuracy | None = None
        self.test_labels: NDArray[np.uint8] | None = None

    def run(self) -> RunRecord:
        """Every way a cell can end, other than being stopped, ends in a record."""
        status: Status = "ok"
        reason = None
        try:
            if self.job.killed_for_memory:
                raise MemoryError("the kernel ended the worker for using too much memory")
            self._prepare()
            self._measure()
            if "accuracy" in self.cell.metrics:
                status, reason = self._train()
        except (StoppedError, DataError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                status, reason = "oom", str(error).splitlines()[0]
            else:
                logger.exception("The cell failed")
                status, reason = "error", f"{type(error).__name__}: {error}"
        record = self._record(status, reason)
        write_record(self.cell.record_path(self.job.results), record)
        shutil.rmtree(self.folder, ignore_errors=True)
        return record

    def build(self) -> nn.Module:
        """The cell's model on its device; the same weights for the same seed on every device."""
        torch.manual_seed(self.cell.seed)
        model = build_model(
            self.cell.model_entry, self.cell.model_options, self.cell.settings.architecture, self.spec
        )
        return model.to(self.device)

    def _prepare(self) -> None:
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

            self.splits[split] = prepare(self.task, split, count, progress=progress)
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
        path = self.folder / "measurements.json"
        if path.exists():
            self.found = json.loads(path.read_text("utf-8"))
        phases = {"flops": self._count_flops, "memory": self._measure_memory, "time": self._measure_time}
        for name, phase in phases.items():
            if name in self.cell.metrics and name not in self.found:
                self.emit({"event": "phase", "phase": name})
                self.found[name] = phase()
                write_atomically(path, json.dumps(self.found))
                if self.should_stop():
                    raise StoppedError("Stopped while measuring; what was measured is kept.")
        self.emit({"event": "measured", **self.found})

    def _staged_step(self) -> tuple[Callable[[], None], nn.Module, torch.optim.Optimizer, Batch]:
        """One training step on a batch that is already on the device, padded to the full length."""
        settings = self.cell.settings
        source = BatchSource(self.splits["train"], self.spec, max_length=self.spec.max_length, padding="max")
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

    def _shape(self) -> dict[str, int]:
        return {"batch_size": self.cell.settings.budget.batch_size, "length": self.spec.max_length}

    def _count_flops(self) -> dict[str, Any]:
        cell, shape = self.cell, self._shape()
        size = (shape["batch_size"], shape["length"])
        with torch.device("meta"):
            model = build_model(cell.model_entry, cell.model_options, cell.settings.architecture, self.spec)
            ids = torch.zeros(size, dtype=torch.int64)
            mask = None if self.spec.fixed_length else torch.ones(size, dtype=torch.bool)
        inputs = (ids, mask, ids, mask) if self.spec.paired else (ids, mask)
        return {**count_flops(model, inputs).to_dict(), **shape}

    def _measure_memory(self) -> dict[str, Any]:
        step, model, optimizer, batch = self._staged_step()
        result = measure_peak_memory(
            step,
            model=model,
            optimizer=optimizer,
            batch=[*batch.inputs, batch.labels],
            device=self.device,
            warm_up_steps=2,
        )
        return {**result.to_dict(), **self._shape()}

    def _measure_time(self) -> dict[str, Any]:
        step, *_ = self._staged_step()
        result = measure_step_time(step, device=self.device).to_dict()
        shape = self._shape()
        rate = shape["batch_size"] / result["median_s"]
        tokens = rate * shape["length"] * (2 if self.spec.paired else 1)
        session = f"{self.cell.run_id} {self.started}"
        return {
            **result,
            **shape,
            "sequences_per_s": rate,
            "tokens_per_s": tokens,
            "session": session,
        }

    def _train(self) -> tuple[Status, str | None]:
        settings = self.cell.settings
        steps = settings.budget.steps
        model = self.build()
        torch.manual_seed(self.cell.seed + 1)  # Dropout's stream starts here, whatever building drew.
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

        trainer = Trainer(
            model,
            settings,
            self.sources["train"],
            self.sources["validation"],
            device=self.device,
            seed=self.cell.seed,
            precision=self.cell.precision,
            compiled=self.cell.compiled,
            folder=self.folder,
            checkpoint_every_s=float(os.environ.get(CHECKPOINT_VARIABLE, CHECKPOINT_EVERY_S)),
            on_step=on_step,
            should_stop=self.should_stop,
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

    def _score(self, trainer: Trainer) -> Accuracy:
        settings, progress = self.cell.settings.evaluation, trainer.progress

        def on(split: Split, limit: int | None = None) -> Evaluation:
            return evaluate(
                trainer.model,
                self.sources[split],
                limit=limit,
                batch_size=settings.batch_size,
                device=self.device,
                precision=self.cell.precision,
            )

        last = on("test")
        trainer.best_model()
        best = last if progress.best_step == progress.step else on("test")
        self.test_labels = best.labels
        path = self.cell.record_path(self.job.results).with_suffix(".npz")
        write_predictions(path, best.predictions, last.predictions, best.labels)
        validation_point = next(p for p in progress.curve if p["step"] == progress.best_step)
        validation_n = self.sources["validation"].num_examples
        return Accuracy(
            best=_score(progress.best_step, best),
            last=_score(progress.step, last),
            validation=Score(
                step=progress.best_step,
                accuracy=progress.best_correct / validation_n,
                correct=progress.best_correct,
                n=validation_n,
                interval=_wilson(progress.best_correct, validation_n),
                loss=validation_point["validation_loss"],
            ),
            train=_score(progress.best_step, on("train", settings.train_examples)),
            curve=progress.curve,
            target_accuracy=settings.target_accuracy,
            steps_to_target=progress.steps_to_target,
            seconds_to_target=progress.seconds_to_target,
            train_s=progress.elapsed_s,
            predictions_file=path.name,
        )

    def _record(self, status: Status, reason: str | None) -> RunRecord:
        cell = self.cell
        return RunRecord(
            schema_version=SCHEMA,
            run_id=cell.run_id,
            status=status,
            reason=reason,
            verdict=verdict.judge(self.accuracy, self.spec, self.test_labels, self.job.controls),
            model=self._model_part(),
            task=self._task_part(),
            protocol=ProtocolPart(
                name=cell.protocol,
                sha256=cell.protocol_sha256,
                overrides=dict(cell.overrides),
                tuning_trials=0,
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
            environment=describe_environment(self.device),
            provenance={
                **describe_provenance(self.job.command),
                "started": self.started,
                "finished": _now(),
            },
        )

    def _model_part(self) -> ModelPart:
        cell, entry = self.cell, self.cell.model_entry
        architecture = cell.settings.architecture
        own = count_parameters(entry, cell.model_options, architecture, self.spec)
        ratio = without = None
        if entry.kind != "classifier":
            base_entry = registry.models.get("transformer")
            base = count_parameters(base_entry, {}, architecture, self.spec)
            ratio = (own.core + own.length_dependent) / (base.core + base.length_dependent)
            without = own.core / base.core
        return ModelPart(
            name=cell.model,
            family=entry.family,
            options=dict(cell.model_options),
            changed_options=cell.changed_options,
            parameters=ParameterCount(**asdict(own)),
            ratio=ratio,
            ratio_without_length_dependent=without,
            control=entry.is_control,
        )

    def _task_part(self) -> TaskPart:
        spec = self.spec
        quantiles: dict[str, int] = {}
        histogram: list[int] = []
        if "train" in self.splits:
            lengths = self.splits["train"].lengths
            found = np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1], method="nearest").astype(int)
            quantiles = dict(zip(("min", "p25", "median", "p75", "max"), found.tolist(), strict=True))
            histogram = np.histogram(lengths, bins=10, range=(0, spec.max_length))[0].tolist()
        return TaskPart(
            name=self.cell.task,
            dataset=spec.dataset,
            variant=spec.variant,
            parameters=dict(self.cell.task_parameters),
            num_classes=spec.num_classes,
            chance=spec.chance,
            metric=spec.metric,
            max_length=spec.max_length,
            length_quantiles=quantiles,
            length_histogram=histogram,
            truncated_share=self.sources["train"].truncated_share if "train" in self.sources else None,
            vocabulary_sha256=spec.vocabulary_sha256,
            splits={
                name: SplitPart(examples=split.num_examples, sha256=split.fingerprint)
                for name, split in self.splits.items()
            },
        )


def _score(step: int, result: Evaluation) -> Score:
    return Score(
        step=step,
        accuracy=result.accuracy,
        correct=result.correct,
        n=result.n,
        interval=_wilson(result.correct, result.n),
        loss=result.loss,
    )


def _now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _wilson(correct: int, n: int) -> tuple[float, float]:
    interval = wilson_interval(correct, n)
    return interval.low, interval.high


def _part(kind: Any, found: Mapping[str, Any] | None) -> Any:
    return None if found is None else kind(**found)


@contextlib.contextmanager
def locked(folder: Path, emit: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Holds the cell, so that two processes don't write one checkpoint. Waits for the other to finish."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        yield
        return
    with (folder.parent / f".{folder.stem}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            emit({"event": "phase", "phase": "wait"})
            fcntl.flock(file, fcntl.LOCK_EX)
        for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):  # of a run that was killed while writing
            leftover.unlink(missing_ok=True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(file.name)


def limit_memory(device: torch.device) -> None:
    """Lets an allocation fail cleanly before the kernel has to end the process (Linux, CPU only)."""
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return  # CUDA maps far more address space than it uses.
    import resource

    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (int(available * MEMORY_SHARE), resource.RLIM_INFINITY))


def main() -> int:
    """Entry point of the child process."""
    # What libraries print must not mix with events.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    stop = False

    def ask_to_stop(_number: int, _frame: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)

    def emit(event: Mapping[str, Any]) -> None:
        nonlocal stop
        try:
            events.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            stop = True  # The parent is gone: save and leave.

    try:
        job = Job.from_json(json.load(sys.stdin))
        device = torch.device(job.cell.device)
        limit_memory(device)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(available_cores())
        with locked(job.cell.partial_folder(job.results), emit):
            if not job.cell.record_path(job.results).exists():
                Worker(job, emit, lambda: stop).run()
    except LraBenchError as error:
        if not isinstance(error, StoppedError):
            emit({"event": "failure", "message": str(error), "exit_code": error.exit_code})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
