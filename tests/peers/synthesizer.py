"""The Synthesizer as it is usually composed, with its n x n weights: no maintained package has it."""

from __future__ import annotations

import torch
from peers.peer import Speed
from torch import Tensor, nn


class ComposedSynthesizer(nn.Module):
    """Logits, softmax and a product with the values; 4 heads of 32."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.value, self.out = nn.Linear(128, 128), nn.Linear(128, 128)
        self.make_parameters(length)

    def make_parameters(self, length: int) -> None:
        self.R1 = nn.Parameter(torch.randn(4, length, 8))
        self.R2 = nn.Parameter(torch.randn(4, 8, length))

    def logits(self, x: Tensor) -> Tensor:
        return self.R1 @ self.R2

    def forward(self, x: Tensor) -> Tensor:
        value = self.value(x).unflatten(-1, (4, 32)).transpose(1, 2)
        mixed = self.logits(x).softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))


class ComposedDense(ComposedSynthesizer):
    def make_parameters(self, length: int) -> None:
        self.first = nn.Linear(128, 128)
        self.second = nn.Parameter(torch.randn(4, 32, length))
        self.bias = nn.Parameter(torch.randn(4, 1, length))

    def logits(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu().unflatten(-1, (4, 32)).transpose(1, 2)
        return hidden @ self.second + self.bias


class ComposedRandom(ComposedSynthesizer):
    def make_parameters(self, length: int) -> None:
        self.R = nn.Parameter(torch.randn(4, length, length))

    def logits(self, x: Tensor) -> Tensor:
        return self.R


class ComposedFactorizedDense(ComposedSynthesizer):
    def make_parameters(self, length: int) -> None:
        self.first = nn.Linear(128, 128)
        self.left = nn.Parameter(torch.randn(4, 32, length // 32))
        self.right = nn.Parameter(torch.randn(4, 32, 32))

    def logits(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu().unflatten(-1, (4, 32)).transpose(1, 2)
        left, right = hidden @ self.left, hidden @ self.right
        return left.repeat_interleave(32, dim=-1) * right.repeat(1, 1, 1, left.shape[-1])


class ComposedMixture(ComposedSynthesizer):
    def make_parameters(self, length: int) -> None:
        self.query, self.key = nn.Linear(128, 128), nn.Linear(128, 128)
        self.R = nn.Parameter(torch.randn(4, length, length))
        self.share = nn.Parameter(torch.zeros(4, 1, 1))

    def logits(self, x: Tensor) -> Tensor:
        query, key = (layer(x).unflatten(-1, (4, 32)).transpose(1, 2) for layer in (self.query, self.key))
        share = self.share.sigmoid()
        return (1 - share) * (query @ key.transpose(-2, -1)) / 32**0.5 + share * self.R


SHORT = (1024, 2048)
"""At 4,096 tokens the composed modes that write n x n logits out for each sequence need several GiB."""

SPEEDS = [
    Speed("composed n x n softmax", ComposedSynthesizer),
    Speed("composed n x n softmax", ComposedDense, {"mode": "dense"}, SHORT),
    Speed("composed n x n softmax", ComposedRandom, {"mode": "random"}, SHORT),
    Speed("composed n x n softmax", ComposedFactorizedDense, {"mode": "factorized_dense"}, SHORT),
    Speed("composed n x n softmax", ComposedMixture, {"mode": "mixture"}, SHORT),
]
