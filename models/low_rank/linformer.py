"""Linformer: keys and values are projected along the sequence to a fixed number of slots."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, merge_heads, split_heads

Sharing = Literal["none", "headwise", "key_value", "layerwise"]


class Linformer(MultiHeadMixer):
    """softmax(Q (E K)^T / sqrt(e)) (F V), with E and F learned, rank x max_length.

    Linformer: Self-Attention with Linear Complexity. Wang, Li, Khabsa, Fang, Ma, 2020,
    arXiv 2006.04768, section 4, eq. 7. Inputs shorter than max_length use the first columns of E
    and F. Padded keys and values are zeroed before the projection: afterwards a slot mixes all
    positions, and no mask over slots could take padding out again.

    rank: k, the number of slots. A rank above the length is neither refused nor clamped: the
        formula holds for any k, only nothing is saved, and a record that says 256 means 256.
    sharing: who shares E and F (section 4, "Parameter sharing between projections").
        none: every head has its own E and F; headwise: one E and one F per layer; key_value: one
        E = F per layer; layerwise: one E = F for all layers. The default is layerwise, which the
        paper finds to lose almost nothing (section 5.1) and which adds the fewest parameters:
        rank x max_length for the whole model.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        rank: int = 256,
        sharing: Sharing = "layerwise",
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(rank >= 1, "rank", rank, "at least 1")
        known = ("none", "headwise", "key_value", "layerwise")
        require(sharing in known, "sharing", sharing, f"one of {', '.join(known)}")
        self.rank = rank
        self.sharing = sharing
        size = (num_heads, rank, self.max_length) if sharing == "none" else (rank, self.max_length)
        self.E = nn.Parameter(torch.empty(size))
        # Registered under one name only where E = F, so that nothing counts or steps it twice.
        self.F = nn.Parameter(torch.empty(size)) if sharing in ("none", "headwise") else None
        for projection in (self.E, self.F):
            if projection is not None:
                # Xavier with gain 1/sqrt 2, as in ports of the authors' code: a projected key is then
                # no larger than a key, at any rank and length.
                nn.init.normal_(projection, std=1 / math.sqrt(self.max_length + rank))

    @classmethod
    def build_layers(cls, num_layers: int, dim: int, num_heads: int, **arguments: Any) -> list[Self]:
        layers = super().build_layers(num_layers, dim, num_heads, **arguments)
        for layer in layers[1:]:
            if layer.sharing == "layerwise":
                layer.E = layers[0].E
        return layers

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        self.check_length(key.shape[2])
        if mask is not None:
            padding = ~mask[:, None, :, None]  # (b, 1, n, 1)
            key, value = key.masked_fill(padding, 0), value.masked_fill(padding, 0)
        return F.scaled_dot_product_attention(
            query,
            self.compress(key, self.E),
            self.compress(value, self.E if self.F is None else self.F),
            dropout_p=self.dropout if self.training else 0.0,
        )

    def compress(self, x: Tensor, projection: Tensor) -> Tensor:
        """(b, h, n, e) -> (b, h, k, e)"""
        batch, _, length, _ = x.shape
        projection = projection[..., :length]
        if self.sharing == "none":
            # Batch and width side by side: the projections are read once, not once per sequence.
            slots = torch.bmm(projection, x.permute(1, 2, 0, 3).flatten(2))  # (h, k, b * e)
            return slots.reshape(*slots.shape[:2], batch, -1).permute(2, 0, 1, 3)
        # One product for all heads. Expanding by hand keeps matmul from copying x to fold the batch.
        slots = torch.bmm(projection.expand(batch, -1, -1), merge_heads(x))  # (b, k, h * e)
        return split_heads(slots, self.num_heads)

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        rank: int = 256,
        sharing: Sharing = "layerwise",
        **options: Any,
    ) -> Cost:
        """E K, F V, Q (E K)^T and the product with F V: 2 n k e per head each."""
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        inner = num_heads * head_dim
        slots = 2 * rank * inner
        # With a projection per head, keys and values are laid out anew, head by head.
        copies = 2 * length * inner if sharing == "none" else 0
        return Cost(
            projections.flops + 8 * length * rank * inner,
            projections.activation_bytes + 4 * (slots + copies + length * num_heads),
        )
