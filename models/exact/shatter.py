"""Shatter: single-headed sigmoid attention, with values of their own for parts of the relative positions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, key_mask, split_heads


class Shatter(MultiHeadMixer):
    """concat_p (A o F_p) X W_p, A = sigmoid(X W_q X^T / sqrt(d) - log n), F_p[i, j] = f_p(j - i).

    Shatter: An Efficient Transformer Encoder with Single-Headed Self-Attention and Relative Sequence
    Partitioning. Tian, Maynez, Parikh, 2021, arXiv 2108.13032. Its four changes are options, each of
    which can be switched off alone; without all of them this is the plain Transformer with the same
    weights. The card lists what is our choice because no code of the paper is public.

    single_head: one head as wide as all of the protocol's together, and so one n x n matrix. Off:
        the protocol's heads.
    partition: the space of relative positions is softly partitioned, and each part has a value
        projection of its own. Off: one value projection for all positions.
    num_parts: how many parts, by default as many as the protocol has heads, so that a part's values
        are as wide as a head's. Must divide the width of a head's values.
    max_distance: distance between tokens from which on the outermost parts alone count; 512, the
        longest sequence of BERT, in whose place the paper puts its model.
    sigmoid: a sigmoid of each score. Off: a softmax over the scores of a query.
    key_projection: keys have a projection. Off, as in the paper: keys are the input itself, and
        each head's queries have its width.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        single_head: bool = True,
        partition: bool = True,
        num_parts: int | None = None,
        max_distance: int = 512,
        sigmoid: bool = True,
        key_projection: bool = False,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        inner = num_heads * self.head_dim
        self.num_matrices = 1 if single_head else num_heads
        width = inner // self.num_matrices
        parts = num_heads if num_parts is None else num_parts
        require(parts >= 1, "num_parts", num_parts, "at least 1")
        if partition:
            require(width % parts == 0, "num_parts", parts, f"a divisor of the width of a head, {width}")
        require(max_distance >= 1, "max_distance", max_distance, "at least 1")
        self.partition = partition
        self.num_parts = parts if partition else 1
        self.max_distance = max_distance
        self.sigmoid = sigmoid
        self.key_projection = key_projection
        # Rows are query, key where there is one, and value, in this order.
        scored = self.num_matrices * (width if key_projection else dim)
        self._widths = [scored, scored, inner] if key_projection else [scored, inner]
        self.input_projection = nn.Linear(dim, sum(self._widths))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, d) -> query (b, h, n, c), key (b, h or 1, n, c), value (b, h, n, v); h is 1 for one head."""
        parts = self.input_projection(x).split(self._widths, dim=-1)
        query, value = (split_heads(part, self.num_matrices) for part in (parts[0], parts[-1]))
        if self.key_projection:
            return query, split_heads(parts[1], self.num_matrices), value
        return query, x[:, None].to(query.dtype), value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        batch, heads, length, width = query.shape
        dropout = self.dropout if self.training else 0.0
        if self.key_projection and not self.partition and not self.sigmoid:
            seen = None if mask is None else key_mask(mask)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=dropout)
        # Sigmoids, sums of logarithms and powers are taken in float32 at least.
        precise = torch.promote_types(query.dtype, torch.float32)
        kept = None
        if dropout:
            kept = torch.empty(batch * heads, length, length, dtype=torch.bool, device=query.device)
            kept.bernoulli_(1 - dropout)
        mixed: Tensor = _PartitionedAttention.apply(  # type: ignore[no-untyped-call]
            query,
            key,
            value.unflatten(-1, (self.num_parts, -1)),  # (b, h, n, p, v / p)
            self.part_weights(length, query.device, precise) if self.partition else None,
            self.key_bias(length, mask, query.device, precise),
            kept,
            1 / (1 - dropout),
            1 / math.sqrt(width),
            self.sigmoid,
        )
        return mixed.flatten(3)

    def part_weights(self, length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """f_p(j - i), a column for each distance from n - 1 down to 1 - n. (p, 2 n - 1)

        The Bernstein polynomials of degree p - 1, not negative and one in sum, at the logarithm of the
        distance with its sign, brought to [0, 1].
        """
        distance = torch.arange(length - 1, -length, -1, device=device).to(dtype)
        reach = torch.log1p(distance.abs()) / math.log1p(self.max_distance)
        place = (1 + distance.sign() * reach.clamp(max=1)) / 2  # (2 n - 1), 1/2 at the token itself
        degree = self.num_parts - 1
        return torch.stack(
            [math.comb(degree, p) * place**p * (1 - place) ** (degree - p) for p in range(degree + 1)]
        )

    def key_bias(self, length: int, mask: Tensor | None, device: torch.device, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of each key: (b, 1, n) or (1, 1, 1), -inf at padding.

        For sigmoids - log n, n the number of real tokens: a sum of sigmoids grows with n, where weights
        of a softmax sum to one.
        """
        if mask is None:
            return torch.full(
                (1, 1, 1), -math.log(length) if self.sigmoid else 0.0, dtype=dtype, device=device
            )
        if self.sigmoid:
            real = mask.sum(-1).clamp(min=1).to(dtype)
            return torch.where(mask, -real.log()[:, None], -torch.inf)[:, None]
        zero = torch.zeros((), dtype=dtype, device=device)
        return torch.where(key_mask(mask)[:, 0], zero, -torch.inf)

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        single_head: bool = True,
        partition: bool = True,
        sigmoid: bool = True,
        key_projection: bool = False,
        **options: Any,
    ) -> Cost:
        """Scores and A V, 2 n^2 times the width of queries and of values, all heads together.

        Each value belongs to one part, so that parts cost no products. Kept: input, projections and the
        result, no n x n matrix (see `_PartitionedAttention`).
        """
        inner = num_heads * head_dim
        heads = 1 if single_head else num_heads
        scored = inner if key_projection else heads * dim
        projected = inner + scored * (2 if key_projection else 1)
        fused = key_projection and not partition and not sigmoid
        kept = length * (dim + projected + inner + (heads if fused else 0))  # log-sum-exp where fused
        return Cost(2 * length * dim * (projected + inner) + 2 * length * length * (scored + inner), 4 * kept)


BLOCK_NUMBERS = {"cpu": 2**20}
"""Weights held at a time, all sequences and parts together: a few MiB, to stay within a core's cache."""
BLOCK_NUMBERS_ELSEWHERE = 2**26
FEWEST_ROWS = 32
"""Queries in a block, so that products stay worth their call."""


class _PartitionedAttention(torch.autograd.Function):
    """(activation(scale Q K^T + bias) o F_p) V_p for all parts p, a block of queries at a time.

    query: (b, h, n, c); key: (b, h or 1, n, c); value: (b, h, n, p, w); table: (p, 2 n - 1) or None,
    constant; bias: (b or 1, 1, n or 1), constant; kept: (b h, n, n) bool of dropout, or None.
    -> (b, h, n, p, w)

    The n x n matrices of the parts are never whole: backward computes each block of weights again, as
    fused kernels do. Blocks fit the cache, so that what is element-wise costs little beside the products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table: Tensor | None,
        bias: Tensor,
        kept: Tensor | None,
        kept_factor: float,
        scale: float,
        sigmoid: bool,
    ) -> Tensor:
        batch, heads, length, parts, width = value.shape
        ctx.save_for_backward(query, key, value, table, bias, kept)
        ctx.settings = kept_factor, scale, sigmoid
        q, k, v, bias, part = _folded(query, key, value, table, bias)
        # Laid out as the heads are merged: (b, n, h, p, w).
        result = value.new_empty(batch, length, heads, parts, width)
        for rows in _blocks(q, parts):
            weights = _activation(q[:, rows], k, bias, scale, sigmoid)
            if kept is not None:
                weights = weights * kept[:, rows] * kept_factor
            mixed = _weighted(weights, part, rows).to(v.dtype) @ v  # (b h, p, r, w)
            result[:, rows] = mixed.unflatten(0, (batch, heads)).permute(0, 3, 1, 2, 4)
        return result.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, table, bias, kept = ctx.saved_tensors
        kept_factor, scale, sigmoid = ctx.settings
        batch, heads, length, parts, width = value.shape
        q, k, v, bias, part = _folded(query, key, value, table, bias)
        grad = grad.transpose(2, 3).reshape(batch * heads, parts, length, width)
        grad_q = torch.empty_like(q)
        # Sums over blocks, in float32 at least.
        grad_k = torch.zeros_like(k, dtype=bias.dtype)
        grad_v = torch.zeros_like(v, dtype=bias.dtype)
        for rows in _blocks(q, parts):
            active = _activation(q[:, rows], k, bias, scale, sigmoid)  # (b h, r, n)
            dropped = active if kept is None else active * kept[:, rows] * kept_factor
            own = grad[:, :, rows]
            weighted = _weighted(dropped, part, rows).to(v.dtype)  # (b h, p, r, n)
            _add_product(grad_v.flatten(0, 1), weighted.flatten(0, 1).mT, own.flatten(0, 1))
            grad_weighted = own @ v.mT  # (b h, p, r, n)
            if part is not None:
                grad_weighted = grad_weighted.mul_(part[:, rows])
            grad_active = grad_weighted.sum(1) if parts > 1 else grad_weighted[:, 0]
            if kept is not None:
                grad_active = grad_active * kept[:, rows] * kept_factor
            if sigmoid:
                grad_scores = torch.ops.aten.sigmoid_backward(grad_active, active)
            else:
                inward = (grad_active * active).sum(-1, keepdim=True)
                grad_scores = (grad_active - inward) * active
            grad_scores = grad_scores.to(q.dtype)
            grad_q[:, rows] = (grad_scores @ k).mul_(scale)
            _add_product(grad_k, grad_scores.mT, q[:, rows], scale)
        grad_k = grad_k.flip(1).to(key.dtype).unflatten(0, (batch, heads))
        if key.shape[1] < heads:
            grad_k = grad_k.sum(1, keepdim=True)
        grad_v = grad_v.flip(2).to(v.dtype).unflatten(0, (batch, heads)).transpose(2, 3)
        return grad_q.unflatten(0, (batch, heads)), grad_k, grad_v, None, None, None, None, None, None


def _folded(
    query: Tensor, key: Tensor, value: Tensor, table: Tensor | None, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Heads as more sequences, and keys, values and bias from last to first.

    In this order a part's weight hangs on i plus the place of the key: its whole n x n matrix is a view
    of the table, without a copy. -> q, k (b h, n, c), v (b h, p, n, w), bias, (p, n, n) or None
    """
    _, heads, length, _ = query.shape
    q = query.flatten(0, 1)
    k = key.expand(-1, heads, -1, -1).flatten(0, 1).flip(1)
    v = value.transpose(2, 3).flatten(0, 1).flip(2)
    if bias.shape[0] > 1:
        bias = bias.repeat_interleave(heads, 0)
    return q, k, v.contiguous(), bias.flip(-1), None if table is None else table.unfold(-1, length, 1)


def _blocks(q: Tensor, parts: int) -> list[slice]:
    sequences, length, _ = q.shape
    numbers = BLOCK_NUMBERS.get(q.device.type, BLOCK_NUMBERS_ELSEWHERE)
    rows = max(FEWEST_ROWS, numbers // (sequences * parts * length))
    return [slice(start, start + rows) for start in range(0, length, rows)]


def _activation(q: Tensor, k: Tensor, bias: Tensor, scale: float, sigmoid: bool) -> Tensor:
    """(b h, r, c), (b h, n, c) -> (b h, r, n) weights, in the precision of the bias."""
    if q.dtype == bias.dtype:
        scores = torch.baddbmm(bias, q, k.mT, alpha=scale)
    else:
        scores = (q @ k.mT).to(bias.dtype).mul_(scale).add_(bias)
    return scores.sigmoid_() if sigmoid else scores.softmax(-1)


def _weighted(weights: Tensor, part: Tensor | None, rows: slice) -> Tensor:
    """(b h, r, n) -> (b h, p, r, n)"""
    return weights[:, None] if part is None else weights[:, None] * part[:, rows]


def _add_product(total: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    if total.dtype == left.dtype:
        total.baddbmm_(left, right, alpha=scale)
    else:
        total.add_(left @ right, alpha=scale)
