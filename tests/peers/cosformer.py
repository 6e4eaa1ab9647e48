"""cosFormer as it is usually composed: no package on PyPI has it, and the authors' code is one file."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from peers.peer import Speed
from torch import Tensor, nn


class ComposedCosFormer(nn.Module):
    """Three layers, features beside one another and three einsums."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(128, 128) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).unflatten(-1, (4, 32)) for layer in (self.query, self.key, self.value))
        query, key = F.relu(query), F.relu(key)
        angle = math.pi / 2 * torch.arange(1, x.shape[1] + 1, device=x.device)[:, None, None] / x.shape[1]
        query = torch.cat([query * angle.sin(), query * angle.cos()], dim=-1)
        key = torch.cat([key * angle.sin(), key * angle.cos()], dim=-1)
        context = torch.einsum("bnhe,bnhf->bhef", key, value)
        normaliser = 1 / torch.einsum("bnhe,bhe->bnh", query, key.sum(1)).clamp(min=1e-6)
        return self.out(torch.einsum("bnhe,bhef,bnh->bnhf", query, context, normaliser).flatten(2))


SPEEDS = [Speed("composed einsums", lambda n: ComposedCosFormer())]
