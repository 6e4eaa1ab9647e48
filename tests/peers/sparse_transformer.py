"""torch's multi-head attention under the n x n masks that the authors' code and the 2020 release build.

No package computes the two sets without a GPU: published code for the CPU holds the mask and all scores.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn


def banded(length: int, width: int) -> Tensor:
    """`local` of the authors' code: a band below the diagonal, `width` wide with it."""
    ones = torch.ones(length, length)
    return (ones.tril() * ones.triu(1 - width)).bool()


def every(length: int, stride: int) -> Tensor:
    """`strided` of the authors' code: equal remainders, below the diagonal."""
    positions = torch.arange(length)
    return ((positions[:, None] - positions) % stride == 0).tril()


def own_block(length: int, size: int) -> Tensor:
    """`Fixed1Pattern` of the 2020 release."""
    block = torch.arange(length).div(size, rounding_mode="floor")
    return (block[:, None] == block).tril()


def block_ends(length: int, size: int, count: int) -> Tensor:
    """`Fixed2Pattern` of the 2020 release, without the first of each block."""
    return (torch.arange(length) % size >= size - count).expand(length, length).tril()


def both_ways(pattern: Tensor) -> Tensor:
    return pattern | pattern.T


class Masked(nn.Module):
    """nn.MultiheadAttention that sees the pairs of `pattern` (n, n)."""

    def __init__(self, pattern: Tensor) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(SIZES.dim, SIZES.num_heads, batch_first=True)
        self.hidden = ~pattern

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # A pad sees itself, since torch gives NaN for a softmax over nothing.
        seen = ~self.hidden & mask[:, None] | torch.eye(x.shape[1], dtype=torch.bool)
        hidden = (~seen).repeat_interleave(SIZES.num_heads, 0)
        return self.attention(x, x, x, attn_mask=hidden, need_weights=False)[0]


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.input_projection.weight, state["attention.in_proj_weight"])
    assign(mixer.input_projection.bias, state["attention.in_proj_bias"])
    assign(mixer.output_projection.weight, state["attention.out_proj.weight"])
    assign(mixer.output_projection.bias, state["attention.out_proj.bias"])


def parity(seen: Tensor, **options: object) -> Parity:
    return Parity(
        "torch==2.13.0",
        lambda: Masked(seen),
        lambda peer, x, mask: peer(x, mask),
        give,
        options,
        remark="torch's attention with a dense mask, as the authors' code builds it",
    )


STRIDED = banded(32, 5) | every(32, 5)
FIXED = own_block(32, 6) | block_ends(32, 6, 2)

PARITIES = {
    "strided-causal": parity(STRIDED, stride=5, causal=True),
    "strided": parity(both_ways(STRIDED), stride=5),
    "fixed-causal": parity(FIXED, pattern="fixed", stride=6, num_summary=2, causal=True),
}


class DenseMask(nn.Module):
    """The common way: all n x n scores, those outside the pattern set to -1e10, then softmax."""

    def __init__(self, pattern: Tensor) -> None:
        super().__init__()
        self.input_projection = nn.Linear(128, 3 * 128)
        self.output_projection = nn.Linear(128, 128)
        self.pattern = pattern

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.input_projection(x).unflatten(-1, (3, 4, 32)).permute(2, 0, 3, 1, 4)
        return self.output_projection(self.attend(query, key, value).transpose(1, 2).flatten(2))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(-2, -1) / 32**0.5
        return scores.masked_fill(~self.pattern, -1e10).softmax(-1) @ value


class FusedMask(DenseMask):
    """The same with torch's fused kernel, which holds the n x n mask and no scores."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=self.pattern)


def strided(length: int) -> Tensor:
    return both_ways(banded(length, 64) | every(length, 64))


def fixed(length: int) -> Tensor:
    ends = (torch.arange(length) % 64 >= 48).expand(length, length)
    return both_ways(own_block(length, 64)) | ends


SPEEDS = [
    Speed("composition: all scores, masked", lambda n: DenseMask(strided(n))),
    Speed("composition: fused kernel, masked", lambda n: FusedMask(strided(n))),
    Speed("composition: fused kernel, masked", lambda n: FusedMask(fixed(n)), {"pattern": "fixed"}),
]
