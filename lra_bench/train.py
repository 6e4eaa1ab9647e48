"""The training loop that every model gets: same batches, same schedule, same selection.

A run can stop at any step and continue to the same result: the batch of a step is a function of
(seed, step), and a checkpoint holds everything else (weights, optimiser, random state, best so far).
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lra_bench.data.batches import Batch, BatchSource
from lra_bench.encoder import auxiliary_losses
from lra_bench.errors import DataError, LraBenchError
from lra_bench.files import write_atomically
from lra_bench.protocol import Optimizer, Schedule, Settings

CHECK_LOSS_EVERY = 20
"""On accelerators, steps between looks at the loss: each look waits for the device."""
CHECKPOINT_EVERY_S = 20.0
"""Seconds of work that a killed run loses at most; LRA_BENCH_CHECKPOINT_S sets another."""


class DivergedError(LraBenchError):
    """The loss is no longer finite."""


class TimeLimitError(LraBenchError):
    """The protocol's time limit for training has passed."""


class StoppedError(LraBenchError):
    """Asked to stop; the checkpoint is written."""

    exit_code = 130


@dataclass
class Progress:
    """Where a training run stands. Everything here is saved with a checkpoint."""

    step: int = 0
    elapsed_s: float = 0.0
    loss_sum: float = 0.0
    """Of the training losses since the last evaluation."""
    loss_count: int = 0
    best_step: int = -1
    best_correct: int = -1
    steps_to_target: int | None = None
    seconds_to_target: float | None = None
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Evaluation:
    """Predictions on a split, in index order."""

    predictions: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    loss: float

    @property
    def correct(self) -> int:
        return int((self.predictions == self.labels).sum())

    @property
    def n(self) -> int:
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        return self.correct / self.n


def learning_rate(schedule: Schedule, base: float, step: int, num_steps: int) -> float:
    """Rate of update `step` (from 0) out of `num_steps`.

    `rsqrt` is the 2020 release's factor, base * min(1, t / W) / sqrt(max(t, W)), not normalised by
    sqrt(W); `linear` and `cosine` fall from the end of the warm-up to 0 at the end of training.
    """
    warmup = max(schedule.warmup_steps, 1)
    if schedule.name == "rsqrt":
        return base * min(1.0, step / warmup) / math.sqrt(max(step, warmup))
    # (t + 1) / W: the first update is not thrown away on a rate of zero.
    rise = min(1.0, (step + 1) / warmup)
    rest = min(1.0, max(0.0, (step - schedule.warmup_steps) / max(1, num_steps - schedule.warmup_steps)))
    if schedule.name == "linear":
        return base * rise * (1.0 - rest)
    if schedule.name == "cosine":
        return base * rise * 0.5 * (1.0 + math.cos(math.pi * rest))
    return base * rise


def build_optimizer(model: nn.Module, settings: Optimizer, device: torch.device) -> torch.optim.Optimizer:
    """AdamW over all parameters, in one fused update."""
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=device.type in {"cpu", "cuda"},
    )


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bf16 autocast, or nothing for fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    clip_norm: float | None,
    precision: str,
) -> Tensor:
    """Forward, backward, clipping, update, gradients cleared. Returns the loss, still on the device."""
    device = batch.labels.device
    with autocast(device, precision):
        logits = model(*batch.inputs)
        loss = F.cross_entropy(logits.float(), batch.labels)
        for extra in auxiliary_losses(model):
            loss = loss + extra
    loss.backward()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    source: BatchSource,
    *,
    batch_size: int,
    device: torch.device,
    precision: str,
    limit: int | None = None,
) -> Evaluation:
    """Every example once, in order, none dropped (or the first `limit`); the loss is weighted by examples."""
    model.eval()
    predictions, labels = [], []
    loss_sum, seen = 0.0, 0
    for on_host in source.in_order(batch_size):
        batch = on_host.to(device)
        with autocast(device, precision):
            logits = model(*batch.inputs).float()
        loss_sum += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        predictions.append(logits.argmax(dim=-1).to(torch.uint8).cpu().numpy())
        labels.append(batch.labels.to(torch.uint8).cpu().numpy())
        seen += len(batch)
        if limit is not None and seen >= limit:
            break
    model.train()
    return Evaluation(np.concatenate(predictions), np.concatenate(labels), loss_sum / seen)


class Trainer:
    """Trains one model under one protocol's settings, with checkpoints.

    Args:
        folder: where `checkpoint.pt` lives; a checkpoint found there is continued.
        checkpoint_every_s: seconds between checkpoints.
        on_step: called after every step with (step, loss or None, progress).
        should_stop: asked after every step; True writes a checkpoint and raises StoppedError.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Settings,
        train_source: BatchSource,
        validation_source: BatchSource,
        *,
        device: torch.device,
        seed: int,
        precision: str = "fp32",
        compiled: bool = False,
        folder: Path | None = None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        on_step: Callable[[int, float | None, Progress], None] = lambda *_: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model = model
        self.settings = settings
        self.train_source = train_source
        self.validation_source = validation_source
        self.device = device
        self.seed = seed
        self.precision = precision
        self.folder = folder
        self.checkpoint_every_s = checkpoint_every_s
        self.on_step = on_step
        self.should_stop = should_stop
        self.progress = Progress()
        self.optimizer = build_optimizer(model, settings.optimizer, device)
        self.best_weights: dict[str, Tensor] = {}
        # The compiled module shares the parameters; weights are saved under the plain names.
        self.forward_model: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
        self._run_started = 0.0
        self._elapsed_before = 0.0
        self._saved_at = 0.0

    def run(self) -> Progress:
        """Trains to the end of the budget, from the checkpoint if there is one.

        Raises:
            DivergedError: the loss is not finite.
            TimeLimitError: the protocol's time limit has passed.
            StoppedError: `should_stop` said so; the checkpoint is written.
        """
        self._load()
        budget = self.settings.budget
        self._run_started = self._saved_at = time.monotonic()
        self._elapsed_before = self.progress.elapsed_s
        self.model.train()
        if self.progress.step == 0 and not self.progress.curve:
            self._validate()
        pending: list[Tensor] = []
        for step, batch in self._batches(self.progress.step, budget.steps):
            rate = learning_rate(
                self.settings.schedule, self.settings.optimizer.learning_rate, step, budget.steps
            )
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            pending.append(
                training_step(
                    self.forward_model,
                    self.optimizer,
                    batch,
                    clip_norm=self.settings.optimizer.gradient_clip_norm,
                    precision=self.precision,
                )
            )
            self.progress.step = done = step + 1
            last = done == budget.steps
            look = self.device.type == "cpu" or done % CHECK_LOSS_EVERY == 0
            evaluate_now = done % budget.evaluate_every == 0 or last
            loss = self._absorb(pending) if look or evaluate_now else None
            if evaluate_now:
                self._validate()
            self._tick()
            self.on_step(done, loss, self.progress)
            stop = self.should_stop()
            if stop or last or time.monotonic() - self._saved_at > self.checkpoint_every_s:
                self._absorb(pending)
                self.save()
            if stop and not last:
                raise StoppedError(f"Stopped after step {done} of {budget.steps}; the checkpoint is written.")
            limit = budget.time_limit_s
            if limit is not None and self.progress.elapsed_s > limit and not last:
                self._absorb(pending)
                self._validate()
                self.save()
                raise TimeLimitError(
                    f"training passed budget.time_limit_s={limit:g} after {done} of {budget.steps} steps"
                )
        return self.progress

    def best_model(self) -> nn.Module:
        """The model with the weights of the best validation score (the last one's weights are lost)."""
        if self.best_weights:
            self.model.load_state_dict(self.best_weights)
        return self.model

    def _batches(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
        def build(step: int) -> Batch:
            return self.train_source.training_batch(self.settings.budget.batch_size, self.seed, step)

        if self.device.type == "cpu":
            for step in range(start, stop):
                yield step, build(step)
            return
        # An accelerator works while the next batch is put together and copied.
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(build, start) if start < stop else None
            for step in range(start, stop):
                assert upcoming is not None
                batch = upcoming.result().to(self.device, non_blocking=True)
                upcoming = pool.submit(build, step + 1) if step + 1 < stop else None
                yield step, batch

    def _absorb(self, pending: list[Tensor]) -> float | None:
        """Adds the losses of the last steps to the running mean; the only place that waits for them."""
        if not pending:
            return None
        losses = torch.stack(pending).double().cpu().tolist()
        pending.clear()
        if not all(math.isfinite(loss) for loss in losses):
            raise DivergedError(f"the training loss is not finite at step {self.progress.step}")
        self.progress.loss_sum += sum(losses)
        self.progress.loss_count += len(losses)
        return float(losses[-1])

    def _validate(self) -> None:
        progress = self.progress
        result = evaluate(
            self.model,
            self.validation_source,
            batch_size=self.settings.evaluation.batch_size,
            device=self.device,
            precision=self.precision,
        )
        self._tick()
        # A later step must be strictly better: of equal scores the earlier one is kept. The untrained
        # model is on the curve, but is never the one that is scored.
        if progress.step and result.correct > progress.best_correct:
            progress.best_correct, progress.best_step = result.correct, progress.step
            self.best_weights = {
                name: value.detach().clone() for name, value in self.model.state_dict().items()
            }
        target = self.settings.evaluation.target_accuracy
        if target is not None and progress.steps_to_target is None and result.accuracy >= target:
            progress.steps_to_target, progress.seconds_to_target = progress.step, progress.elapsed_s
        mean_loss = progress.loss_sum / progress.loss_count if progress.loss_count else result.loss
        progress.loss_sum, progress.loss_count = 0.0, 0
        progress.curve.append(
            {
                "step": progress.step,
                "train_loss": mean_loss,
                "validation_accuracy": result.accuracy,
                "validation_loss": result.loss,
                "elapsed_s": progress.elapsed_s,
            }
        )

    def _tick(self) -> None:
        self.progress.elapsed_s = self._elapsed_before + time.monotonic() - self._run_started

    @property
    def checkpoint_path(self) -> Path | None:
        return self.folder / "checkpoint.pt" if self.folder else None

    def save(self) -> None:
        """Writes the checkpoint whole or not at all."""
        if self.checkpoint_path is None:
            return
        self._tick()
        buffer = io.BytesIO()
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "best": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "progress": vars(self.progress),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        torch.save(state, buffer)
        write_atomically(self.checkpoint_path, buffer.getvalue())
        self._saved_at = time.monotonic()

    def _load(self) -> None:
        path = self.checkpoint_path
        if path is None or not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise DataError(
                f"{path}: the checkpoint cannot be read ({error}). Remove its folder to start afresh."
            ) from error
        self.model.load_state_dict(state["model"])
        self.best_weights = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"].cpu())
        if "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self.device)
        self.progress = Progress(**state["progress"])
