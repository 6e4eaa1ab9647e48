"""No package has GroupBERT. The peers put its layer together in plain torch as its authors' code does (four
pre-norm modules, grouped products as convolutions of one token): with attention written out, which is what
that code has, and with fused attention.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from peers.peer import Speed
from torch import Tensor, nn


class Convolution(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.glu = nn.LayerNorm(dim), nn.Linear(dim, 2 * dim)
        self.convolution = nn.Conv1d(dim, dim, 7, padding="same", groups=dim // 16)
        self.inner_norm, self.output = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        gates, values = self.glu(self.norm(x)).chunk(2, dim=-1)
        mixed = self.convolution((values * torch.sigmoid(gates)).mT).mT
        return x + self.output(F.silu(self.inner_norm(mixed)))


class FeedForward(nn.Module):
    def __init__(self, dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm, self.expand = nn.LayerNorm(dim), nn.Linear(dim, ffn_dim)
        self.grouped, self.output = nn.Conv1d(ffn_dim, dim, 1, groups=4), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.expand(self.norm(x)))
        return x + self.output(self.grouped(hidden.mT).mT)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm, self.qkv, self.output = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm(x)).chunk(3, dim=-1)
        )
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-1) @ value
        return x + self.output(mixed.transpose(1, 2).flatten(2))


def layer(fused: bool, dim: int = 128, ffn_dim: int = 256) -> nn.Module:
    return nn.Sequential(
        Convolution(dim),
        FeedForward(dim, ffn_dim),
        Attention(dim, 4, fused),
        FeedForward(dim, ffn_dim),
        nn.LayerNorm(dim),
    )


PARITIES = {}

SPEEDS = [
    Speed("plain torch, attention written out as the authors' code has it", lambda n: layer(False)),
    Speed("plain torch, fused attention", lambda n: layer(True)),
]
