"""Attention of segments on windows that reach back, with relative positions; and how windows are cut."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def segments(x: Tensor, size: int, axis: int) -> Tensor:
    """(..., n, ...) -> (..., t, s, ...), a view."""
    split: Tensor = x.unflatten(axis, (-1, size))
    return split


def look_back(x: Tensor, size: int, step: int, count: int, axis: int, gap: int = 0) -> Tensor:
    """(..., k, ...) -> (..., count, size, ...): for t = 0, 1, ... the `size` entries before t * step - gap.

    Entries before the first are zeros.
    """
    needed = (count - 1) * step - gap
    padding = (0, 0) * (x.ndim - 1 - axis) + (size + gap, 0)
    return F.pad(x.narrow(axis, 0, needed), padding).unfold(axis, size, step).movedim(-1, axis + 1)


def sinusoids(distances: Tensor, dim: int) -> Tensor:
    """(p,) -> (p, dim): all sines, then all cosines, as in the authors' code of Transformer-XL."""
    powers = torch.arange(0, dim, 2, device=distances.device, dtype=distances.dtype) / dim
    angles = distances[:, None] / 10000**powers
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :dim]


def shift(table: Tensor) -> Tensor:
    """(..., s, p) -> (..., s, p - 1), a view in which row i begins s - 1 - i columns from the left.

    With scores by distance in `table`, column j is then the distance of key j. Read as one line, row
    i + 1 begins one entry earlier than in a table of one column less; so dropping the line's first
    s - 1 entries and its last moves every row to its place.
    """
    rows, columns = table.shape[-2:]
    line = table.flatten(-2)[..., rows - 1 : rows * columns - 1]
    placed: Tensor = line.unflatten(-1, (rows, columns - 1))
    return placed


TABLE = 2**20
"""Scores by distance that are worked on at a time on a CPU: 4 MiB, that stay in a cache."""


def portions(content: Tensor, columns: int) -> list[slice]:
    """Slices of the segments in content (h, m, s, e), each with few enough scores.

    A fresh table of all scores costs a CPU more in page faults than the products that fill it, and would
    be most of the peak memory. Other devices keep memory at hand, and get all segments at once.
    """
    heads, count, segment, _ = content.shape
    step = max(1, TABLE // (heads * segment * columns)) if content.device.type == "cpu" else max(1, count)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


class RelativeAttention(torch.autograd.Function):
    """softmax(content K^T + shift(position R)) V, with a backward pass written by hand.

    Autograd would hold each table of scores twice and write it four times over to undo the shift.
    Shapes: heads h, segments m = b t of all sequences, s queries of width e, k keys, p = s + k distances.
    """

    @staticmethod
    def forward(
        ctx: Any,
        content: Tensor,
        key: Tensor,
        value: Tensor,
        position: Tensor,
        distances: Tensor,
        seen: Tensor | None,
        dropout: float,
    ) -> Tensor:
        """content, position: (h, m, s, e), scaled; key, value: (h, m, k, e); distances: (h, e, p);
        seen: (m, k) bool or None -> (m, s, h, e)"""
        heads, count, segment, width = content.shape
        window = key.shape[2]
        mixed = content.new_empty(count, segment, heads, width)
        saved = []
        for part in portions(content, distances.shape[-1]):
            # One product a head for the segments, over all distances that occur.
            table = torch.bmm(position[:, part].flatten(1, 2), distances)
            placed = shift(table.unflatten(1, (-1, segment)))[..., :window]  # (h, m, s, k), a view
            scores = torch.baddbmm(
                placed.flatten(0, 1),
                content[:, part].flatten(0, 1),
                key[:, part].flatten(0, 1).transpose(1, 2),
            )
            if seen is not None:
                # The lowest finite value, unlike -inf, keeps a query that sees nothing finite.
                lowest = torch.finfo(scores.dtype).min
                scores.unflatten(0, (heads, -1)).masked_fill_(~seen[part, None], lowest)
            weights = scores.softmax(dim=-1)  # (h * m, s, k)
            dropped = weights.new_empty(0)
            applied = weights
            if dropout:
                dropped = torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout)
                applied = weights * dropped
            mixed_part = torch.bmm(applied, value[:, part].flatten(0, 1)).unflatten(0, (heads, -1))
            mixed[part] = mixed_part.permute(1, 2, 0, 3)
            saved += [weights, dropped]
        ctx.dropout = dropout
        ctx.save_for_backward(content, key, value, position, distances, mixed, *saved)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        content, key, value, position, distances, mixed, *saved = ctx.saved_tensors
        heads, _, segment, width = content.shape
        window, columns = key.shape[2], distances.shape[-1]
        # A row's sum of weights times their gradients, that the softmax takes off, is that of outputs.
        totals = (gradients[0] * mixed).sum(-1).permute(2, 0, 1)  # (h, m, s)
        outer = gradients[0].permute(2, 0, 1, 3)  # (h, m, s, e)
        of_content, of_position = torch.empty_like(content), torch.empty_like(position)
        of_key, of_value = torch.empty_like(key), torch.empty_like(value)
        of_distances = torch.zeros_like(distances)
        for index, part in enumerate(portions(content, columns)):
            weights, dropped = saved[2 * index], saved[2 * index + 1]
            gradient = outer[:, part].reshape(-1, segment, width)
            total = totals[:, part].reshape(-1, segment, 1)
            values = value[:, part].flatten(0, 1).transpose(1, 2)
            if ctx.dropout:
                applied = weights * dropped
                of_scores = torch.bmm(gradient, values).mul_(dropped).sub_(total).mul_(weights)
            else:
                applied = weights
                of_scores = torch.baddbmm(total, gradient, values, beta=-1).mul_(weights)  # (h * m, s, k)
            product = torch.bmm(applied.to(gradient.dtype).transpose(1, 2), gradient)
            of_value[:, part] = product.unflatten(0, (heads, -1))
            product = torch.bmm(of_scores, key[:, part].flatten(0, 1))
            of_content[:, part] = product.unflatten(0, (heads, -1))
            product = torch.bmm(of_scores.transpose(1, 2), content[:, part].flatten(0, 1))
            of_key[:, part] = product.unflatten(0, (heads, -1))
            # Back to where the shift took them from; what it left out has no gradient.
            table = of_scores.new_zeros(heads, of_scores.shape[0] // heads, segment, columns)
            shift(table)[..., :window] = of_scores.unflatten(0, (heads, -1))
            flat = table.flatten(1, 2)  # (h, m * s, p)
            product = torch.bmm(flat, distances.transpose(1, 2))
            of_position[:, part] = product.unflatten(1, (-1, segment))
            of_distances += torch.bmm(position[:, part].flatten(1, 2).transpose(1, 2), flat)
        return of_content, of_key, of_value, of_position, of_distances, None, None


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """query: (b, t, s, h, e); key, value: (b, t, k, h, e); seen: (b, t, k) bool -> (b, t, s, h, e)"""
    if seen is not None:
        # Where nothing is seen, a softmax over nothing would be NaN in some kernels.
        seen = (seen | ~seen.any(dim=-1, keepdim=True)).flatten(0, 1)[:, None, None]  # (b * t, 1, 1, k)
    mixed = F.scaled_dot_product_attention(
        query.flatten(0, 1).transpose(1, 2),
        key.flatten(0, 1).transpose(1, 2),
        value.flatten(0, 1).transpose(1, 2),
        attn_mask=seen,
        dropout_p=dropout,
    )  # (b * t, h, s, e)
    restored: Tensor = mixed.transpose(1, 2).unflatten(0, query.shape[:2])
    return restored


class PlainScores(nn.Module):
    """softmax(Q K^T / sqrt(e)) V of each segment on its window, fused."""

    axis = 1

    def arrange(self, x: Tensor) -> Tensor:
        """(b, h, n, e) -> (b, n, h, e), as projections leave it and the fused kernel returns it"""
        return x.transpose(1, 2)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, dropout: float
    ) -> Tensor:
        """As `plain_attention`."""
        return plain_attention(query, key, value, seen, dropout)


class RelativeScores(nn.Module):
    """softmax(((q_i + u) k_j + (q_i + v) W_r R_{i-j}) / sqrt(e)): content and distance apart.

    Dai et al. 2019, section 3.3: u and v stand for the query's own position, in every head; W_r maps
    the sinusoids R of a distance to what a key of that distance looks like. Distances run from the far
    end of the window to the end of the segment, which lies ahead of the query and counts negative.
    """

    axis = 2

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.content_bias = nn.Parameter(torch.empty(num_heads, head_dim))  # u
        self.position_bias = nn.Parameter(torch.empty(num_heads, head_dim))  # v
        self.position_projection = nn.Linear(dim, num_heads * head_dim, bias=False)  # W_r
        for bias in (self.content_bias, self.position_bias):
            nn.init.normal_(bias, std=0.02)  # as the authors' training script initialises both

    def arrange(self, x: Tensor) -> Tensor:
        """(b, h, n, e) -> (h, b, n, e): one product then serves all segments of a head"""
        return x.transpose(0, 1)

    def scaled(self, bias: Tensor, query: Tensor) -> Tensor:
        """(h, e) -> (h, 1, 1, 1, e), as a query that is already scaled needs it"""
        return (bias / math.sqrt(bias.shape[1])).to(query.dtype)[:, None, None, None]

    def positions(self, segment: int, seen: int) -> Tensor:
        """W_r R of the distances seen - 1, ..., -segment: (h, e, segment + seen)

        The last occurs nowhere: `shift` needs a column to spare.
        """
        weight = self.position_projection.weight
        # Angles of far tokens need more bits than half precision has.
        precise = weight.dtype if weight.dtype == torch.float64 else torch.float32
        distances = torch.arange(seen - 1, -segment - 1, -1, device=weight.device, dtype=precise)
        table = sinusoids(distances, weight.shape[1]).to(weight.dtype)
        keys: Tensor = self.position_projection(table).unflatten(-1, self.content_bias.shape)
        return keys.permute(1, 2, 0)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, dropout: float
    ) -> Tensor:
        """query: (h, b, t, s, e); key, value: (h, b, t, k, e); seen: (b, t, k) bool -> (b, t, s, h, e)"""
        # Scaling the query costs n e products a head, scaling the scores n k.
        query = query / math.sqrt(query.shape[-1])
        content = query + self.scaled(self.content_bias, query)
        position = query + self.scaled(self.position_bias, query)
        mixed = RelativeAttention.apply(  # type: ignore[no-untyped-call]
            content.flatten(1, 2).contiguous(),
            key.flatten(1, 2).contiguous(),
            value.flatten(1, 2).contiguous(),
            position.flatten(1, 2).contiguous(),
            self.positions(query.shape[3], key.shape[3]),
            None if seen is None else seen.flatten(0, 1),
            dropout,
        )
        restored: Tensor = mixed.unflatten(0, query.shape[1:3])
        return restored
