"""One training step, its optimiser and its learning rate: the part that is timed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lra_bench.data.batches import Batch
from lra_bench.data.task import IGNORED_LABEL
from lra_bench.encoder import auxiliary_losses
from lra_bench.protocol import Optimizer, Schedule


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


def classification_loss(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in fp32: (b, c) and (b,), or over labelled tokens (b, n, c) and (b, n)."""
    return F.cross_entropy(
        logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED_LABEL, reduction=reduction
    )


def training_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    clip_norm: float | None,
    precision: str,
    part_of_loss: Callable[[Batch], Tensor] | None = None,
) -> Tensor:
    """Forward, backward, clipping, update, gradients cleared. Returns the loss, still on the device.

    part_of_loss: in place of the model and the loss on a whole batch, where several processes share one
        (`data_parallel.part_of_loss`).
    """
    with autocast(batch.labels.device, precision):
        if part_of_loss is not None:
            loss = part_of_loss(batch)
        else:
            logits = model(*batch.inputs)
            loss = classification_loss(logits, batch.labels)
            for extra in auxiliary_losses(model):
                loss = loss + extra
    loss.backward()
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()
