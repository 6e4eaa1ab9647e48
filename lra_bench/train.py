"""The training loop that every model gets: same batches, same schedule, same selection.

A run can stop at any step and continue to the same result: the batch of a step is a function of
(seed, step), and a checkpoint holds everything else (weights, optimiser, random state, best so far).
Several processes may share the batches (`distributed`); the checkpoint is the same for any number of them.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lra_bench.data.batches import Batch, Batches
from lra_bench.data.resident import place, staged
from lra_bench.data_parallel import generator_states, part_of_loss, restore_generators, seed_of_rank
from lra_bench.distributed import Group
from lra_bench.errors import DataError, LraBenchError
from lra_bench.evaluation import evaluate
from lra_bench.files import write_atomically
from lra_bench.optimization import build_optimizer, learning_rate, training_step
from lra_bench.protocol import Settings

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
    validation_n: int = 0
    """Labels that a validation score counts: examples, or labelled tokens."""
    steps_to_target: int | None = None
    seconds_to_target: float | None = None
    curve: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains one model under one protocol's settings, with checkpoints.

    Args:
        folder: where `checkpoint.pt` lives; a checkpoint found there is continued.
        checkpoint_every_s: seconds between checkpoints.
        on_step: called after every step with (step, loss or None, progress).
        should_stop: asked after every step; True writes a checkpoint and raises StoppedError.
        pause: called between steps and batches; may wait for others to measure and returns the seconds that
            took. They are no part of the training time.
        group: the processes that share every batch. All of them make the same trainer and run it.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Settings,
        train_source: Batches,
        validation_source: Batches,
        *,
        device: torch.device,
        seed: int,
        precision: str = "fp32",
        compiled: bool = False,
        folder: Path | None = None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        on_step: Callable[[int, float | None, Progress], None] = lambda *_: None,
        should_stop: Callable[[], bool] = lambda: False,
        pause: Callable[[], float] = lambda: 0.0,
        group: Group = Group(),  # noqa: B008 - plain and frozen
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
        self.pause = pause
        self.group = group
        self.progress = Progress()
        self.optimizer = build_optimizer(model, settings.optimizer, device)
        self.best_weights: dict[str, Tensor] = {}
        # The compiled module shares the parameters; weights are saved under the plain names.
        self.forward_model: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
        self._part_of_loss = part_of_loss(self.forward_model, group)
        self._run_started = 0.0
        self._elapsed_before = 0.0
        self._paused_s = 0.0
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
        self._elapsed_before, self._paused_s = self.progress.elapsed_s, 0.0
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
                    part_of_loss=self._part_of_loss,
                )
            )
            self.progress.step = done = step + 1
            last = done == budget.steps
            evaluate_now = done % budget.evaluate_every == 0 or last
            look = self.device.type == "cpu" or done % CHECK_LOSS_EVERY == 0 or evaluate_now
            loss = self._absorb(pending) if look else None
            if evaluate_now:
                self._validate()
            self._tick()
            self.on_step(done, loss, self.progress)
            if self.group.size > 1 and not look:
                continue  # to ask the others would wait for the device
            self._pause()
            stop, due = self._agreed()
            if stop or last or due:
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
        source, size = place(self.train_source, self.device), self.settings.budget.batch_size
        batches = (
            source.training_batch(size, self.seed, step).part(self.group.rank, self.group.size)
            for step in range(start, stop)
        )
        return zip(range(start, stop), staged(source, batches, self.device), strict=True)

    def _absorb(self, pending: list[Tensor]) -> float | None:
        """Adds the losses of the last steps to the running mean; the only place that waits for them."""
        if not pending:
            return None
        losses = self.group.mean(torch.stack(pending)).double().cpu().tolist()
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
            pause=self._pause,
            group=self.group,
        )
        self._tick()
        progress.validation_n = result.n
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

    def _pause(self) -> None:
        self._paused_s += self.pause()

    def _agreed(self) -> tuple[bool, bool]:
        """Whether to stop and whether a checkpoint is due: rank 0's answers, and its time, for all."""
        due = time.monotonic() - self._saved_at > self.checkpoint_every_s
        answers = [float(self.should_stop()), float(due), self.progress.elapsed_s]
        stop, due_now, self.progress.elapsed_s = self.group.numbers_of_first(answers)
        return bool(stop), bool(due_now)

    def _tick(self) -> None:
        since = time.monotonic() - self._run_started - self._paused_s
        self.progress.elapsed_s = self._elapsed_before + since

    @property
    def checkpoint_path(self) -> Path | None:
        return self.folder / "checkpoint.pt" if self.folder else None

    def save(self) -> None:
        """Writes the checkpoint whole or not at all; of several processes the first one does."""
        if self.checkpoint_path is None:
            return
        self._tick()
        random_states = self.group.gathered(generator_states(self.device))
        if not self.group.is_first:
            return
        buffer = io.BytesIO()
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "best": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "random_states": random_states,
            "progress": vars(self.progress),
        }
        torch.save(state, buffer)
        write_atomically(self.checkpoint_path, buffer.getvalue())
        self._saved_at = time.monotonic()

    def _load(self) -> None:
        path = self.checkpoint_path
        if path is None or not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            random_states = state["random_states"]  # by rank
        except Exception as error:
            raise DataError(
                f"{path}: the checkpoint cannot be read ({error}). Remove its folder to start afresh."
            ) from error
        self.model.load_state_dict(state["model"])
        self.best_weights = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        if self.group.rank < len(random_states):
            restore_generators(random_states[self.group.rank], self.device)
        else:  # of a run in fewer processes
            torch.manual_seed(seed_of_rank(self.seed + self.progress.step, self.group.rank))
