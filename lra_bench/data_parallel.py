"""A training step over several processes, each with a part of the batch: the step of one with all of it.

Each process has a copy of the model. Its loss is its part of the whole batch's mean, which is a sum over all
that has a label divided by how much that is in the whole batch: parts need not be equally large, nor have
equally many labelled tokens. `DistributedDataParallel` averages the gradients while backward still runs; as
the parts are multiplied by the number of processes, the average is the gradient of the whole batch's loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lra_bench.data.batches import Batch
from lra_bench.distributed import Group
from lra_bench.encoder import auxiliary_losses_and_counts
from lra_bench.optimization import classification_loss


class PartOfLoss(nn.Module):
    """A model with its loss, so that what is wrapped sees everything that backward starts from."""

    def __init__(self, model: nn.Module, group: Group) -> None:
        super().__init__()
        self.model = model
        self.group = group

    def forward(self, labels: Tensor, whole: Tensor, *inputs: Tensor | None) -> Tensor:
        """labels: of this part; whole: (2,), labels and sequences of the whole batch (`Batch.whole`)."""
        logits = self.model(*inputs)
        num_labels, num_sequences = whole
        loss = classification_loss(logits, labels, reduction="sum") / num_labels
        for extra, count in auxiliary_losses_and_counts(self.model):
            # A mean as well: over what the module has counted, or over sequences.
            if count is None:
                share = len(labels) / num_sequences
            else:
                own = count.detach().to(whole.dtype)
                share = own / self.group.sum(own.clone()).clamp(min=1)
            loss = loss + share * extra
        part: Tensor = self.group.size * loss
        return part


def part_of_loss(model: nn.Module, group: Group) -> Callable[[Batch], Tensor] | None:
    """What `optimization.training_step` takes as the loss on this process's part of a batch; None for one
    process. The average over the processes, of the losses as of their gradients, is that of the whole batch.
    """
    if group.size == 1:
        return None
    wrapped: Callable[..., Tensor] = DistributedDataParallel(
        PartOfLoss(model, group),
        # A model may leave parameters out of a step: they have to be found in the graph, or others wait.
        find_unused_parameters=True,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )

    def loss(batch: Batch) -> Tensor:
        assert batch.whole is not None
        return wrapped(batch.labels, batch.whole, *batch.inputs)

    return loss


def seed_of_rank(seed: int, rank: int) -> int:
    """Of dropout's stream: rank 0's is that of a run in one process, all others have their own."""
    return (seed + 1_000_003 * rank) % 2**63


def generator_states(device: torch.device) -> list[Tensor]:
    """Of this process's random streams: the processor's, and the device's where it is CUDA."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def restore_generators(states: list[Tensor], device: torch.device) -> None:
    """Sets the streams of this process to what `generator_states` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1].cpu(), device)
