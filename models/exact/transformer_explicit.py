"""Softmax attention with its n x n matrix written out, as most published comparisons ran it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.mixer import Cost, MultiHeadMixer, key_mask


class TransformerExplicit(MultiHeadMixer):
    """softmax(Q K^T / sqrt(e)) V through the full matrix: what a fused kernel saves is the difference.

    Attention Is All You Need. Vaswani et al., 2017, arXiv 1706.03762, eq. 1.
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # Scaling the query costs n e products a head, scaling the scores n^2.
        weights = (query / math.sqrt(self.head_dim)) @ key.transpose(-2, -1)  # (b, h, n, n)
        if mask is not None:
            # In place: the product does not need its own result for backward. The lowest finite
            # value, unlike -inf, keeps a row without any real key finite.
            weights.masked_fill_(~key_mask(mask), torch.finfo(weights.dtype).min)
        weights = F.dropout(weights.softmax(dim=-1), self.dropout, self.training)
        return weights @ value

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """As the fused one, with the n^2 weights of every head kept."""
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        return Cost(
            projections.flops + 4 * length * length * num_heads * head_dim,
            projections.activation_bytes + 4 * length * length * num_heads,
        )
