"""A correct mixer of somebody's own, and the same with one thing wrong each; for `lra-bench validate`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lra_bench.mixer import Cost, MultiHeadMixer


class Correct(MultiHeadMixer):
    """Explicit softmax attention over what came before, causal as its card says."""

    card: ClassVar = {"time": "n^2 d", "memory": "n^2 h + n d", "causal": True}

    def visible(self, length: int) -> Tensor:
        """(n, n) bool: which keys (columns) each query (row) sees."""
        return torch.ones(length, length, dtype=torch.bool).tril()

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        scores = query @ key.transpose(-2, -1) / math.sqrt(self.head_dim)
        # Padding stands on the right, so that a causal mask hides it from every real token.
        scores = scores.masked_fill(~self.visible(scores.shape[-1]).to(scores.device), -math.inf)
        return scores.softmax(dim=-1) @ value

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        square = length * length * num_heads
        return Cost(projections.flops + 4 * square * head_dim, projections.activation_bytes + 4 * square)


class PaddingLeak(Correct):
    """Bidirectional, and padding takes part."""

    card: ClassVar = {"time": "n^2 d", "memory": "n^2 h + n d"}

    def visible(self, length: int) -> Tensor:
        return torch.ones(length, length, dtype=torch.bool)


class FutureLeak(Correct):
    """Claims to be causal and sees the next token."""

    def visible(self, length: int) -> Tensor:
        return torch.ones(length, length, dtype=torch.bool).tril(1)


class DeadParameter(Correct):
    """Has a gate that no result depends on."""

    def __init__(self, dim: int, num_heads: int, **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        self.gate = nn.Parameter(torch.zeros(num_heads))


class WrongGrowth(Correct):
    """Claims linear time and memory, and writes out the n x n matrix."""

    card: ClassVar = {"time": "n d", "memory": "n d", "causal": True}
