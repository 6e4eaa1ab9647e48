"""Symmetric attention with pairwise factors: one projection, and a small matrix between its two uses."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost
from lra_bench.models.exact.symmetric import Symmetric

Factors = Literal["identity", "normal", "scaled_normal"]


class SymmetricPairwise(Symmetric):
    """softmax(Q F Q^T / sqrt(e)) V, F a full e x e matrix of its own for each head.

    Symmetric Dot-Product Attention for Efficient Training of BERT Language Models. Courtois,
    Ostendorff, Hennig, Rehm, 2024, arXiv 2406.06366, the operator with pairwise coefficients. As in the
    authors' code (github.com/mcrts/ACL2024-SymmetricAttentionBert, `BertSelfAttention_Pairwise`), F is
    learned entry by entry and not made symmetric, so neither are the scores.

    factors: what F starts from. "normal", independent N(0, 1), is the authors' code: scores then
        start sqrt(e) times as wide as those of independent queries and keys. "scaled_normal" is N(0, 1/e),
        which takes this factor away. "identity", the default, starts at `symmetric`, so that all that
        tells the two entries apart is learned.
    """

    def __init__(self, dim: int, num_heads: int, *, factors: Factors = "identity", **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        known = ("identity", "normal", "scaled_normal")
        require(factors in known, "factors", factors, f"one of {', '.join(known)}")
        width = self.head_dim
        if factors == "identity":
            start = torch.eye(width).repeat(num_heads, 1, 1)
        else:
            start = torch.randn(num_heads, width, width)
            start = start / width**0.5 if factors == "scaled_normal" else start
        self.pairwise_factors = nn.Parameter(start)  # (h, e, e)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # Q F Q^T = Q (Q F^T)^T. On the side of the keys, since the fused kernel lays its result out as
        # it finds the queries: laid out by head, they would make merging the heads a copy.
        return super().attend(query, self._weighted(key), value, mask)

    def _weighted(self, key: Tensor) -> Tensor:
        """Q F^T: (b, h, n, e) -> (b, h, n, e)"""
        batch, _, length, _ = key.shape
        # All sequences of a head in one product, on a view of the projection: no copy of Q is kept.
        rows = key.transpose(0, 1).flatten(1, 2)  # (h, b * n, e)
        weighted: Tensor = rows @ self.pairwise_factors.transpose(1, 2)
        return torch.unflatten(weighted, 1, (batch, length)).transpose(0, 1)

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """As `symmetric`, with Q F^T of 2 n e^2 per head, which is kept too."""
        plain = super().cost(length, dim, num_heads, head_dim=head_dim)
        inner = num_heads * head_dim
        return Cost(plain.flops + 2 * length * inner * head_dim, plain.activation_bytes + 4 * length * inner)
