"""The processes that run one cell together, and what they tell one another. One process is a group of one.

Started by torchrun, each process has a rank and joins by `connect`. What decides the course (whether to
stop, when to save) is rank 0's word, passed on through the processor, so that no accelerator is kept busy by
waiting. Tensors of a training step are reduced where they are: by gloo on the CPU, by NCCL on CUDA.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""By which a process knows its place."""
TIMEOUT = timedelta(days=1)
"""Others wait while rank 0 prepares data, runs controls or waits for its turn on the device. A process that
dies is no reason for a shorter one: torchrun ends the others."""

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The place of this process among those of its cell. Every method is to be called by all of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those of this machine."""
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Of all: the one that writes checkpoints, events and the record."""
        return self.rank == 0

    @property
    def one_machine(self) -> bool:
        return self.local_size == self.size

    def device(self, name: str) -> str:
        """Of this process, where the cell's is `name`: each has a CUDA device of its own."""
        return f"cuda:{self.local_rank}" if self.size > 1 and name == "cuda" else name

    def sum(self, tensor: Tensor) -> Tensor:
        """Over the processes, in place; on the tensor's device."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """As `sum`."""
        return self.sum(tensor).div_(self.size) if self.size > 1 else tensor

    def largest(self, values: Sequence[float]) -> list[float]:
        """Each the largest over the processes."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [float(value) for value in tensor]

    def numbers_of_first(self, values: Sequence[float]) -> list[float]:
        """Rank 0's."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, 0)
        return [float(value) for value in tensor]

    def of_first(self, value: T) -> T:
        """Rank 0's, whatever it is."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        found = [value]
        dist.broadcast_object_list(found, 0, device=torch.device("cpu"))
        return found[0]

    def gathered(self, value: T) -> list[T]:
        """Everybody's, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, value)
        return [one for one in found if one is not None]

    def meet(self) -> None:
        """Waits until all are here."""
        self.numbers_of_first([0.0])
        self.largest([0.0])

    def share_buffers(self, model: nn.Module) -> None:
        """Gives all processes rank 0's buffers: a model may draw or count in them as it trains."""
        if self.size > 1:
            import torch.distributed as dist

            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and all(
        name in os.environ for name in TORCHRUN_VARIABLES
    )


def place() -> Group:
    """Of this process by torchrun's variables, not connected yet."""
    if not started_by_torchrun():
        return Group()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Group(*(int(os.environ[name]) for name in names))


def connect() -> Group:
    """Joins the processes that torchrun has started, or gives a group of one."""
    group = place()
    if group.size > 1:
        import torch
        import torch.distributed as dist

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available() and group.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(group.local_rank)
        dist.init_process_group(backend, timeout=TIMEOUT)
    return group


def leave(group: Group) -> None:
    """At the end, when all have done their part."""
    if group.size > 1:
        import torch.distributed as dist

        dist.destroy_process_group()
