"""Scores a model on a split: every example once, none dropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lra_bench.data.batches import Batch, Batches
from lra_bench.data.resident import place, staged
from lra_bench.data.task import IGNORED_LABEL
from lra_bench.distributed import Group
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
    group: Group = Group(),  # noqa: B008 - plain and frozen
) -> Evaluation:
    """Every example once, in order, none dropped (or the first `limit` and the rest of their batch).

    The loss is the mean over everything that has a label. `pause` is called after every batch. Several
    processes take batches by turns, the same batches as one process would make, and all get the whole result.
    """
    model.eval()
    group.share_buffers(model)
    placed = place(source, device)
    num_batches = placed.num_batches(batch_size, limit)
    own = staged(placed, placed.in_order(batch_size, range(group.rank, num_batches, group.size)), device)
    scored: list[_Scored] = []
    for _ in range(math.ceil(num_batches / group.size)):
        batch = next(own, None)
        if batch is not None:  # in the last round there may be none left
            scored.append(_score(model, batch, precision))
        pause()
    model.train()
    by_rank = group.gathered(scored)
    in_order = [by_rank[number % group.size][number // group.size] for number in range(num_batches)]
    predictions, labels, losses = zip(*in_order, strict=True)
    answered = np.concatenate(labels)
    return Evaluation(np.concatenate(predictions), answered, sum(losses) / len(answered))


class _Scored(NamedTuple):
    """One batch: (k,) each for its k labels, and the sum of their losses."""

    predictions: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    loss_sum: float


def _score(model: nn.Module, batch: Batch, precision: str) -> _Scored:
    with autocast(batch.labels.device, precision):
        logits = model(*batch.inputs).float()
    asked = batch.labels != IGNORED_LABEL  # all of them, but for tasks with a label per token
    return _Scored(
        logits.argmax(dim=-1)[asked].to(torch.uint8).cpu().numpy(),
        batch.labels[asked].to(torch.uint8).cpu().numpy(),
        float(classification_loss(logits, batch.labels, reduction="sum")),
    )
