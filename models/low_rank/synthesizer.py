"""Synthesizer: attention weights that no pair of tokens decides."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, TokenMixer, key_mask, merge_heads, split_heads

Mode = Literal["dense", "random", "factorized_dense", "factorized_random", "mixture"]
MODES = ("dense", "random", "factorized_dense", "factorized_random", "mixture")


class Synthesizer(TokenMixer):
    """softmax(S) V for logits S that are learned, or predicted from each query's token alone.

    Synthesizer: Rethinking Self-Attention in Transformer Models. Tay, Bahri, Metzler, Juan, Zhao,
    Zheng, 2020, arXiv 2005.00743. Shorter inputs use the first rows and columns of S, and the softmax
    runs over real keys only. A mode has no parameters that it does not use.

    mode: where the logits of a head come from.
        dense: S_i = W_2 relu(W_1 x_i + b_1) + b_2, one logit for each of max_length positions.
        random: S = R, learned, max_length x max_length.
        factorized_dense: S_ij = A_(i, j // c) B_(i, j % c), both predicted as in dense; B has c
            numbers and A as many as it takes to cover max_length.
        factorized_random: S = R_1 R_2^T. The default: it is what the paper sets against other
            efficient encoders, and what its authors' Long Range Arena code has as default.
        mixture: S = (1 - a) Q K^T / sqrt(e) + a R with a learned 0 < a < 1 for each head, one half
            at the start as in the authors' code: random and dot-product attention combined.
    rank: k, the width of R_1 and R_2; 8 in the paper. Only for factorized_random.
    factor_size: c, the numbers that B has. The paper only asks that the two sizes multiply to the
        length; 32 is the root of 1,024, where both are smallest. Only for factorized_dense.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        mode: Mode = "factorized_random",
        rank: int = 8,
        factor_size: int = 32,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(mode in MODES, "mode", mode, f"one of {', '.join(MODES)}")
        require(rank >= 1, "rank", rank, "at least 1")
        require(factor_size >= 1, "factor_size", factor_size, "at least 1")
        self.mode = mode
        self.rank = rank
        self.factor_size = factor_size
        inner, positions = num_heads * self.head_dim, self.max_length
        self.value_projection = nn.Linear(dim, inner)
        self.output_projection = nn.Linear(inner, dim)
        # Random logits start with a variance of one, about that of a scaled dot product.
        if mode == "factorized_random":
            std = math.pow(rank, -0.25)
            self.R1 = nn.Parameter(torch.randn(positions, num_heads, rank) * std)
            self.R2 = nn.Parameter(torch.randn(positions, num_heads, rank) * std)
        elif mode in ("random", "mixture"):
            self.R = nn.Parameter(torch.randn(num_heads, positions, positions))
        if mode == "mixture":
            self.query_key_projection = nn.Linear(dim, 2 * inner)
            self.share = nn.Parameter(torch.zeros(num_heads))  # a before its sigmoid
        if mode in ("dense", "factorized_dense"):
            self.hidden_projection = nn.Linear(dim, inner)  # W_1 of all heads
        if mode == "dense":
            self.W2, self.b2 = self._second_layer(positions)
        elif mode == "factorized_dense":
            self.WA, self.bA = self._second_layer(-(-positions // factor_size))
            self.WB, self.bB = self._second_layer(factor_size)

    def _second_layer(self, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
        """Weights (h, outputs, e) and biases (h, outputs), drawn as nn.Linear draws them."""
        bound = 1 / math.sqrt(self.head_dim)
        weight = torch.empty(self.num_heads, outputs, self.head_dim).uniform_(-bound, bound)
        bias = torch.empty(self.num_heads, outputs).uniform_(-bound, bound)
        return nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.check_length(x.shape[1])
        if self.mode == "factorized_random":
            mixed = self.attend(*self.random_factors(x), self.project(x, self.value_projection), mask)
        elif self.mode == "dense":
            mixed = self.attend_dense(x, mask)
        else:
            value = self.project(x, self.value_projection)
            mixed = self.weigh(self.logits(x), value, mask)
        projected: Tensor = self.output_projection(merge_heads(mixed))
        return projected

    def project(self, x: Tensor, layer: nn.Linear, extra: float | None = None) -> Tensor:
        """(b, n, d) -> (b, h, n, e), or e + 1 with `extra` in the last place of every head."""
        if extra is None:
            return split_heads(layer(x), self.num_heads)
        weight = F.pad(layer.weight.unflatten(0, (self.num_heads, -1)), (0, 0, 0, 1)).flatten(0, 1)
        bias = F.pad(layer.bias.unflatten(0, (self.num_heads, -1)), (0, 1), value=extra).flatten()
        return split_heads(F.linear(x, weight, bias), self.num_heads)

    def random_factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """R_1 and R_2 up to the length, for every sequence: (b, h, n, k) twice, without a copy each."""
        batch, length, _ = x.shape
        # Zeros change no product; the fused kernel wants queries as wide as values.
        missing = max(self.head_dim - self.rank, 0)
        first, second = (F.pad(part[:length], (0, missing)).transpose(0, 1) for part in (self.R1, self.R2))
        return first.expand(batch, -1, -1, -1), second.expand(batch, -1, -1, -1)

    def attend_dense(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """W_2 relu(W_1 x) is a product of queries and keys that are weights; b_2 meets a constant 1."""
        hidden = self.project(x, self.hidden_projection, extra=1.0).relu()  # (b, h, n, e + 1)
        keys = torch.cat([self.W2, self.b2[..., None]], dim=-1)[:, : x.shape[1]]  # (h, n, e + 1)
        value = self.project(x, self.value_projection, extra=0.0)
        return self.attend(hidden, keys.expand(x.shape[0], -1, -1, -1), value, mask)[..., :-1]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """softmax(query key^T) value through the fused kernel, which keeps no n x n numbers."""
        width = value.shape[-1]
        if query.shape[-1] > width:
            value = F.pad(value, (0, query.shape[-1] - width))
        mixed = F.scaled_dot_product_attention(
            query.to(value.dtype),
            key.to(value.dtype),
            value,
            attn_mask=None if mask is None else key_mask(mask),
            dropout_p=self.dropout if self.training else 0.0,
            scale=1.0,
        )
        return mixed[..., :width]

    def logits(self, x: Tensor) -> Tensor:
        """S of the modes that have to write it out: (b, h, n, n), or (1, h, n, n) if x has no say."""
        length = x.shape[1]
        if self.mode == "random":
            return self.R[None, :, :length, :length]
        if self.mode == "factorized_dense":
            return self.factorized_logits(x)
        share = self.share.sigmoid()  # (h,)
        # The scale goes into the weights of Q, which are fewer numbers than Q.
        scale = ((1 - share) / math.sqrt(self.head_dim)).repeat_interleave(self.head_dim)
        layer = self.query_key_projection
        scale = torch.cat([scale, torch.ones_like(scale)])
        both = F.linear(x, layer.weight * scale[:, None], layer.bias * scale)
        query, key = (split_heads(part, self.num_heads) for part in both.chunk(2, dim=-1))
        scores: Tensor = query @ key.transpose(-2, -1)  # (b, h, n, n)
        random = share[:, None, None] * self.R[:, :length, :length]
        return scores.add_(random.to(scores.dtype))

    def factorized_logits(self, x: Tensor) -> Tensor:
        """The outer product of A_i and B_i, read row by row, up to the length."""
        batch, length, _ = x.shape
        blocks = -(-length // self.factor_size)
        # One product for both factors and the whole batch, head by head.
        hidden = self.project(x, self.hidden_projection).transpose(0, 1).flatten(1, 2).relu()  # (h, b * n, e)
        weight = torch.cat([self.WA[:, :blocks], self.WB], dim=1)  # (h, blocks + c, e)
        bias = torch.cat([self.bA[:, :blocks], self.bB], dim=1)
        both = torch.baddbmm(bias[:, None], hidden, weight.transpose(1, 2))  # (h, b * n, blocks + c)
        A, B = both.unflatten(1, (batch, length)).split([blocks, self.factor_size], dim=-1)
        scores: Tensor = (A[..., :, None] * B[..., None, :]).flatten(-2).transpose(0, 1)
        return scores[..., :length]

    def weigh(self, logits: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """softmax(S) V over the real keys, with S written out."""
        if mask is not None:
            logits = logits.masked_fill(~key_mask(mask), torch.finfo(logits.dtype).min)
        weights = logits.softmax(dim=-1)  # (b or 1, h, n, n)
        batch, _, _, width = value.shape
        if self.training and self.dropout:
            weights = F.dropout(weights.expand(batch, -1, -1, -1), self.dropout)
        if weights.shape[0] == batch:
            return weights.to(value.dtype) @ value
        # One product for the values of the whole batch, which all have the same weights.
        beside = value.permute(1, 2, 0, 3).flatten(2)  # (h, n, b * e)
        mixed: Tensor = torch.bmm(weights[0].to(value.dtype), beside).unflatten(2, (batch, width))
        return mixed.permute(2, 0, 1, 3)

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        mode: Mode = "factorized_random",
        rank: int = 8,
        factor_size: int = 32,
        **options: Any,
    ) -> Cost:
        """Projections, logits and softmax(S) V; logits that the batch shares are not a sequence's bytes."""
        inner = num_heads * head_dim
        flops = 4 * length * dim * inner  # values and output
        kept = length * (dim + 2 * inner)  # the input, values and merged heads
        if mode == "factorized_random":
            width = max(rank, head_dim)
            flops += 4 * length**2 * num_heads * width
            kept += length * num_heads  # log-sum-exp
            if width > head_dim:
                kept += length * num_heads * (2 * width - head_dim)  # values and result as wide as R_1
        elif mode == "dense":
            wide = num_heads * (head_dim + 1)
            flops += 2 * length * dim * (2 * wide - inner) + 4 * length**2 * wide
            # The first layer, values and result with a column more, and the log-sum-exp.
            kept += length * (3 * wide - inner + num_heads)
        else:
            flops += 2 * length**2 * inner
            if mode == "mixture":
                flops += 4 * length * dim * inner + 2 * length**2 * inner
                kept += 2 * length * inner + num_heads * length**2
            elif mode == "factorized_dense":
                factors = num_heads * (-(-length // factor_size) + factor_size)
                flops += 2 * length * dim * inner + 2 * length * head_dim * factors
                kept += length * (inner + factors) + num_heads * length**2
        return Cost(flops, 4 * kept)
