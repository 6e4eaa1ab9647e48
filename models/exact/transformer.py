"""Softmax attention, fused: the honest baseline that every speed and memory ratio is taken against."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lra_bench.mixer import Cost, MultiHeadMixer, key_mask


class Transformer(MultiHeadMixer):
    """softmax(Q K^T / sqrt(e)) V, never holding the n x n matrix where a fused kernel exists.

    Attention Is All You Need. Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser,
    Polosukhin, 2017, arXiv 1706.03762, eq. 1 and section 3.2.2. The fused kernels are those of
    torch's scaled_dot_product_attention (FlashAttention, Dao et al. 2022, arXiv 2205.14135).
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # On the CPU, a dropout rate above zero makes torch leave the fused kernel and hold the
        # n x n matrix: memory is then that of `transformer_explicit`.
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if mask is None else key_mask(mask),
            dropout_p=self.dropout if self.training else 0.0,
        )

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """Q K^T and A V are 2 n^2 e per head each. Kept: a log-sum-exp per query and head."""
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        return Cost(
            projections.flops + 4 * length * length * num_heads * head_dim,
            projections.activation_bytes + 4 * length * num_heads,
        )
