"""Sparse Sinkhorn attention: each block sees itself and a block that a learned soft sort puts beside it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, whole_blocks

IMPOSSIBLE = -1e9
"""Logarithm of a share of nothing."""
LEAST_SHARE = 1e-12
"""Below this share of a sorted slot, its real tokens fade out instead of being scaled up."""


class Sinkhorn(MultiHeadMixer):
    """Attends to one's own block and to a mixture of blocks by a doubly stochastic matrix.

    Sparse Sinkhorn Attention. Tay, Bahri, Yang, Metzler, Juan, 2020, arXiv 2002.11296. A sort net turns
    the sum over each block into scores R (blocks x blocks); exp(R / temperature) is normalised over
    rows and columns in turn until it is nearly a permutation S; keys and values of block i are joined by
    those of the sorted block, sum_j S_ij K_j, under one softmax.

    block_size: tokens per block; 64, the default of sinkhorn-transformer's models.
    num_iterations: normalisations of rows and then columns. Default of sinkhorn-transformer.
    temperature: of S; towards 0 it becomes a permutation. Default of sinkhorn-transformer.
    sort_layers: of the sort net. 2 is a hidden layer of its input's width with ReLU and a linear one; 1 is
        the simple sort net of sinkhorn-transformer, linear and then ReLU: scores below 0 stay untrained.
    gumbel_noise: noise on R in training passes, from torch's global generator.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        block_size: int = 64,
        num_iterations: int = 5,
        temperature: float = 0.75,
        sort_layers: int = 2,
        gumbel_noise: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(block_size >= 1, "block_size", block_size, "at least 1")
        require(num_iterations >= 1, "num_iterations", num_iterations, "at least 1")
        require(temperature > 0, "temperature", temperature, "above 0")
        require(sort_layers in (1, 2), "sort_layers", sort_layers, "1 or 2")
        self.block_size = block_size
        self.num_iterations = num_iterations
        self.temperature = temperature
        self.gumbel_noise = gumbel_noise
        width = 2 * self.head_dim
        max_blocks = -(-self.max_length // block_size)
        self.sort_hidden = nn.Parameter(torch.empty(num_heads, width, width)) if sort_layers == 2 else None
        # Without a bias: what is added to a whole column of R is all but removed by the normalisation.
        self.sort_output = nn.Parameter(torch.empty(num_heads, width, max_blocks))
        # The sums over blocks are wide: scores of order one keep the sort soft, so that it can learn.
        for index, weight in enumerate(w for w in (self.sort_hidden, self.sort_output) if w is not None):
            nn.init.normal_(weight, std=1 / math.sqrt(width * (block_size if index == 0 else 1)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        self.check_length(length)
        return super().forward(*whole_blocks(x, mask, self.block_size))[:, :length]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        batch, heads, length, width = query.shape
        blocks = length // self.block_size
        if mask is not None:
            query, key, value = (part * mask[:, None, :, None] for part in (query, key, value))
        own = torch.stack((key, value)).unflatten(3, (blocks, -1))  # (2, b, h, blocks, w, e)
        pooled = torch.cat((query.unflatten(2, (blocks, -1)).sum(dim=3), own[0].sum(dim=3)), dim=-1)
        share = self.normalise(self.scores(pooled), mask).to(value.dtype)  # (b, h, blocks, blocks)
        ahead = self.apply_sort(share, own)
        if mask is not None:
            ahead = ahead * self.compensation(share, mask)
        # Each block's own tokens and those sorted beside it: (b * blocks, h, 2w, e)
        seen = torch.cat((own.transpose(2, 3), ahead.transpose(2, 3)), dim=4)
        keys, values = seen.flatten(1, 2).unbind()
        queries = query.transpose(1, 2).reshape(-1, self.block_size, heads, width).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=None if mask is None else self.visible(mask),
            dropout_p=self.dropout if self.training else 0.0,
        )  # (b * blocks, h, w, e)
        return mixed.transpose(1, 2).reshape(batch, length, heads, width).transpose(1, 2)

    def scores(self, pooled: Tensor) -> Tensor:
        """(b, h, blocks, 2e) sums of a block's queries and keys -> (b, h, blocks, blocks) R."""
        output = self.sort_output[..., : pooled.shape[2]]
        if self.sort_hidden is None:
            return F.relu(pooled @ output)
        return F.relu(pooled @ self.sort_hidden) @ output

    def normalise(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """(b, h, blocks, blocks) R -> S, rows and columns summing to about one; in logarithms."""
        if scores.dtype in (torch.float16, torch.bfloat16):
            scores = scores.float()
        if self.training and self.gumbel_noise:
            scores = scores - torch.empty_like(scores).exponential_().log()
        share = scores / self.temperature
        if mask is not None:
            # Blocks of padding only are sorted to where they are, so that real ones see real ones.
            real = mask.unflatten(1, (-1, self.block_size)).any(dim=-1)  # (b, blocks)
            apart = torch.eye(real.shape[1], device=share.device).log().clamp(min=IMPOSSIBLE).to(share.dtype)
            share = torch.where((real[:, :, None] & real[:, None, :])[:, None], share, apart)
        for _ in range(self.num_iterations):
            share = share.log_softmax(dim=-1).log_softmax(dim=-2)
        return share.exp()

    def apply_sort(self, share: Tensor, blocks: Tensor) -> Tensor:
        """sum_j S_ij X_j: (b, h, blocks, blocks), (2, b, h, blocks, w, e) -> (2, b, h, blocks, w, e)"""
        return (share @ blocks.flatten(4)).view(blocks.shape)

    def compensation(self, share: Tensor, mask: Tensor) -> Tensor:
        """(b, h, blocks, w, 1): the sum of S_ij, over that of the j that have a real token at the slot.

        A slot past the end of the last, shorter block is sorted among the other blocks only.
        """
        real = mask.unflatten(1, (-1, self.block_size)).to(share.dtype)  # (b, blocks, w)
        reached = share @ real[:, None]
        scale: Tensor = share.sum(dim=-1, keepdim=True) / reached.clamp(min=LEAST_SHARE)
        return scale[..., None]

    def visible(self, mask: Tensor) -> Tensor:
        """(b * blocks, 1, 1, 2w) bool: the real tokens of a block, and the sorted slots that hold any."""
        own = mask.unflatten(1, (-1, self.block_size))  # (b, blocks, w)
        some = own.any(dim=-1, keepdim=True) & own.any(dim=1, keepdim=True)
        seen = torch.cat((own, some), dim=-1).flatten(0, 1)
        return (seen | ~seen.any(dim=-1, keepdim=True))[:, None, None, :]

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        block_size: int = 64,
        num_iterations: int = 5,
        sort_layers: int = 2,
        **options: Any,
    ) -> Cost:
        """Q K^T and A V: 2 n 2w e per head each; the sort: 2 n blocks e for keys and values each."""
        extra = -length % block_size
        padded = length + extra
        blocks = padded // block_size
        inner, width = num_heads * head_dim, 2 * head_dim
        projections = cls.projection_cost(padded, dim, num_heads, head_dim)
        sort_net = 2 * num_heads * blocks * width * (blocks + (width if sort_layers == 2 else 0))
        flops = projections.flops + sort_net + 4 * padded * blocks * inner + 8 * padded * block_size * inner
        # Keys and values, then those with the sorted ones beside them, log-sum-exp.
        kept = 6 * padded * inner + padded * num_heads
        # The sort net's input, hidden layer and weights; its scores, each normalisation, S, and two copies.
        kept += num_heads * width * (blocks * (sort_layers + 1) + (width if sort_layers == 2 else 0))
        kept += num_heads * blocks * blocks * (2 * num_iterations + 3 + (sort_layers == 1))
        if extra:
            flops += 2 * num_heads * padded * blocks
            # What sorted tokens are scaled by, and the mask as numbers. The sorted tokens themselves, before
            # scaling, are as many as the projected keys and values, of which only masked copies are kept.
            kept += num_heads * (4 * padded + blocks) + 2 * padded
            kept += (padded + blocks * blocks) // 4
        return Cost(flops, projections.activation_bytes + 4 * kept)
