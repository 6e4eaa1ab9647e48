"""What autograd keeps for the backward pass, counted as it is kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def saved_bytes(module: nn.Module, x: Tensor, mask: Tensor | None = None) -> int:
    """Bytes of the distinct storages that `module(x, mask)` saves, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # Holding on to the storage keeps its address from being given to another one.
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x) if mask is None else module(x, mask)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)
