"""Longformer: softmax attention within a sliding window, and from and to a few global tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, key_mask, merge_heads, split_heads

SMALLEST_BLOCK = 16
"""Queries that are computed together with the keys of all their windows; more where the window is wide."""


class Longformer(MultiHeadMixer):
    """Each token attends to window / 2 tokens on either side, and to the global tokens, in one softmax;
    global tokens attend to everything, with projections of their own.

    Longformer: The Long-Document Transformer. Beltagy, Peters, Cohan, 2020, arXiv 2004.05150, section
    3.1. The paper makes the tokens global that a task needs, [CLS] for classification; here the first
    `num_global` tokens of the sequence are. Global tokens are seen by others through the window's
    projections, as in the authors' code, which the paper leaves open.

    window: tokens seen besides the own one, half of them on either side. 512 is the paper's for
        documents (section 5).
    dilation: distance between neighbours in the window, for all heads; 1 is a plain window. Section 4.1
        dilates two heads of the higher layers of its language models only, and section 5 none.
    num_global: how many of the first tokens attend to all, and are attended to by all; 1 stands for [CLS].
    global_projections: whether attention from global tokens has query, key and value projections of its
        own, at the start copies of the window's.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        window: int = 512,
        dilation: int = 1,
        num_global: int = 1,
        global_projections: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(window >= 2 and window % 2 == 0, "window", window, "an even number of at least 2")
        require(dilation >= 1, "dilation", dilation, "at least 1")
        require(num_global >= 0, "num_global", num_global, "at least 0")
        self.window = window
        self.dilation = dilation
        self.num_global = num_global
        self.global_projection: nn.Linear | None = None
        if num_global and global_projections:
            # Rows are query, key, value, as in input_projection.
            self.global_projection = nn.Linear(dim, 3 * num_heads * self.head_dim)
            self.global_projection.load_state_dict(self.input_projection.state_dict())

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = self.project(x)
        mixed: Tensor = self.output_projection(merge_heads(self.attend(query, key, value, mask)))
        if not self.num_global:
            return mixed
        if self.global_projection is not None:
            query, key, value = self.project_globally(self.global_projection, x)
        seen_by_all = self.output_projection(merge_heads(self.attend_globally(query, key, value, mask)))
        return torch.cat([seen_by_all, mixed[:, self.num_global :]], dim=1)

    def project_globally(self, projection: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, d) -> Q_g (b, h, g, e) of the global tokens, K_g and V_g (b, h, n, e) of all."""
        inner = self.num_heads * self.head_dim
        weight, bias = projection.weight, projection.bias
        query = F.linear(x[:, : self.num_global], weight[:inner], bias[:inner])
        key, value = F.linear(x, weight[inner:], bias[inner:]).chunk(2, dim=-1)
        return (
            split_heads(query, self.num_heads),
            split_heads(key, self.num_heads),
            split_heads(value, self.num_heads),
        )

    def attend_globally(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """From the global tokens to all: three (b, h, n, e) -> (b, h, g, e)"""
        return F.scaled_dot_product_attention(
            query[:, :, : self.num_global],
            key,
            value,
            attn_mask=None if mask is None else key_mask(mask),
            dropout_p=self.dropout if self.training else 0.0,
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """From all tokens to their windows and to the global tokens, in one softmax.

        Tokens a multiple of `dilation` apart form a sequence of their own, cut into blocks of c queries.
        A block attends to s keys, the global tokens and the windows of all its queries, each query to
        those that `allowed` says.
        """
        batch, heads, length, width = query.shape
        block, extra, _ = self.blocking(length, self.window, self.dilation)
        query = F.pad(query.transpose(1, 2), (0, 0, 0, 0, 0, extra))
        # A copy, or it would hold on to keys and values too, which share a tensor with the query.
        query = query.unflatten(1, (-1, self.dilation)).transpose(1, 2).contiguous()
        mixed = F.scaled_dot_product_attention(
            query.view(-1, block, heads, width).transpose(1, 2),  # (b * blocks, h, c, e)
            self.keys_of_blocks(key.transpose(1, 2)).transpose(1, 2),  # (b * blocks, h, s, e)
            self.keys_of_blocks(value.transpose(1, 2)).transpose(1, 2),
            attn_mask=self.allowed(batch, length, mask, query.device),
            dropout_p=self.dropout if self.training else 0.0,
        )
        mixed = mixed.transpose(1, 2).reshape(batch, self.dilation, -1, heads, width).transpose(1, 2)
        return mixed.flatten(1, 2)[:, :length].transpose(1, 2)

    @staticmethod
    def blocking(length: int, window: int, dilation: int) -> tuple[int, int, int]:
        """Queries in a block, tokens that fill up the last blocks, keys on either side of a block."""
        tokens = -(-length // dilation)  # in each of the interleaved sequences
        block = min(max(window // 2, SMALLEST_BLOCK), tokens)
        extra = -(-tokens // block) * block * dilation - length
        return block, extra, window // 2 if block < tokens else 0

    def keys_of_blocks(self, x: Tensor, near: Tensor | None = None) -> Tensor:
        """(b, n, ...) -> (b * blocks, s, ...): global tokens, and windows of x or of `near`."""
        block, extra, reach = self.blocking(x.shape[1], self.window, self.dilation)
        margin = reach * self.dilation
        windows = F.pad(x if near is None else near, (0, 0) * (x.dim() - 2) + (margin, margin + extra))
        windows = windows.unflatten(1, (-1, self.dilation)).transpose(1, 2)
        windows = windows.unfold(2, block + 2 * reach, block).movedim(-1, 3)  # (b, m, blocks, s, ...)
        everywhere = x[:, None, None, : self.num_global].expand(*windows.shape[:3], -1, *x.shape[2:])
        return torch.cat([everywhere, windows], dim=3).flatten(0, 2)

    def allowed(self, batch: int, length: int, mask: Tensor | None, device: torch.device) -> Tensor:
        """(b * blocks, 1, c, s) bool: which keys of its block a query attends to."""
        block, _, reach = self.blocking(length, self.window, self.dilation)
        if mask is None:
            mask = torch.ones(batch, length, dtype=torch.bool, device=device)
        position = torch.arange(length, device=device)
        # A global token that lies within the window counts once, as a global one.
        real = self.keys_of_blocks(mask, near=mask & (position >= self.num_global))
        key = torch.arange(block + 2 * reach, device=device) - reach
        within = (key - torch.arange(block, device=device)[:, None]).abs() <= self.window // 2
        within = F.pad(within, (min(self.num_global, length), 0), value=True)  # (c, s)
        allowed = real[:, None, :] & within
        # Where padding sees nothing, all is allowed: a softmax over nothing is NaN in some kernels.
        return (allowed | ~allowed.any(dim=-1, keepdim=True))[:, None]

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        window: int = 512,
        dilation: int = 1,
        num_global: int = 1,
        global_projections: bool = True,
        **options: Any,
    ) -> Cost:
        """Q K^T and A V: 2 n s e per head each, and 2 g n e for the g global tokens.

        n is filled up to whole blocks of c queries, and s = c + w + g.
        """
        inner = num_heads * head_dim
        block, extra, reach = cls.blocking(length, window, dilation)
        num_global = min(num_global, length)
        filled, seen = length + extra, block + 2 * reach + num_global
        flops = 2 * length * dim * inner * 4 + 4 * filled * seen * inner
        # The layer's input, and what local attention keeps: query, result and log-sum-exp; keys and
        # values, once for each block that sees them; the mask, as numbers.
        kept = length * dim + filled * (2 * inner + num_heads) + filled // block * seen * (2 * inner + block)
        if extra or dilation > 1:
            kept += length * inner  # the result in order, before the last projection
        if num_global:
            flops += 4 * num_global * length * inner + 2 * num_global * inner * dim
            kept += num_global * (2 * inner + num_heads)
            if global_projections:
                flops += 2 * dim * inner * (num_global + 2 * length)
                kept += num_global * dim + 2 * length * inner
            else:
                kept += 3 * length * inner - num_global * inner
        return Cost(flops, 4 * kept)
