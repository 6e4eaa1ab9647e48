"""Scores a model on a split: every example once, none dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lra_bench.data.batches import Batches
from lra_bench.data.resident import place, staged
from lra_bench.data.task import IGNORED_LABEL
from lra_bench.optimization import autocast, classification_loss


@dataclass
class Evaluation:
    """Predictions on a split, in index order; one per sequence, or one per labelled token."""

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


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    source: Batches,
    *,
    batch_size: int,
    device: torch.device,
    precision: str,
    limit: int | None = None,
    pause: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Every example once, in order, none dropped (or the first `limit` and the rest of their batch).

    The loss is the mean over everything that has a label. `pause` is called after every batch.
    """
    model.eval()
    predictions, labels = [], []
    loss_sum, seen = 0.0, 0
    placed = place(source, device)
    for batch in staged(placed, placed.in_order(batch_size), device):
        with autocast(device, precision):
            logits = model(*batch.inputs).float()
        loss_sum += float(classification_loss(logits, batch.labels, reduction="sum"))
        asked = batch.labels != IGNORED_LABEL  # all of them, but for tasks with a label per token
        predictions.append(logits.argmax(dim=-1)[asked].to(torch.uint8).cpu().numpy())
        labels.append(batch.labels[asked].to(torch.uint8).cpu().numpy())
        seen += len(batch)
        pause()
        if limit is not None and seen >= limit:
            break
    model.train()
    answered = np.concatenate(labels)
    return Evaluation(np.concatenate(predictions), answered, loss_sum / len(answered))
