"""Sparse Transformer: softmax attention over a near and a far set of keys, strided or fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, key_mask, whole_blocks


class SparseTransformer(MultiHeadMixer):
    """Each token attends to the tokens near it and to a thin set across the whole sequence.

    Generating Long Sequences with Sparse Transformers. Child, Gray, Radford, Sutskever, 2019, arXiv
    1904.10509, its factorised attention. With stride l, token i sees a near set A1 and a far set A2:

        strided: A1 = {j : |i - j| < l}                  A2 = {j : (i - j) mod l = 0}
        fixed:   A1 = {j : floor(j / l) = floor(i / l)}  A2 = {j : j mod l >= l - c}

    and with `causal` only the j <= i of them. A token always sees itself. Scores are computed in
    blocks of l tokens, so that no n x n matrix is held: of each head n (3 l + n / l) numbers for
    strided, n (l + c n / l) for fixed.

    pattern: "strided" for what has a period, such as the rows of an image, "fixed" for text, as in the
        paper. Strided is the default because its far set is the thinner one: at l = sqrt(n) it is the
        paper's O(n sqrt(n)).
    stride: l; None for the whole number nearest to sqrt(max_length). The cost is the paper's O(n sqrt(n))
        for l near sqrt(n), and 64 is that for 4,096 tokens, the longest of the usual inputs.
    num_summary: c, how many tokens at the end of each block are seen by all others; of "fixed" only. 16
        of 64 is the share of 32 in 128, the pattern that the 2020 release of Long Range Arena takes
        over from the paper's text model.
    causal: False, since the benchmark classifies whole sequences; True is the paper's own mask.
    heads: "merged", one softmax over both sets in every head; "split", the first half of the heads
        sees A1, the others A2; "interleaved", layers see A1 and A2 by turns. Merged is the default:
        each layer then has both sets, and the 2020 release computes it too.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        pattern: Literal["strided", "fixed"] = "strided",
        stride: int | None = 64,
        num_summary: int = 16,
        causal: bool = False,
        heads: Literal["merged", "split", "interleaved"] = "merged",
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(pattern in ("strided", "fixed"), "pattern", pattern, "strided or fixed")
        stride = max(1, round(math.sqrt(self.max_length))) if stride is None else stride
        require(stride >= 1, "stride", stride, "at least 1, or None for the root of max_length")
        if pattern == "fixed":
            require(1 <= num_summary <= stride, "num_summary", num_summary, f"1 to stride={stride}")
        require(heads in ("merged", "split", "interleaved"), "heads", heads, "merged, split or interleaved")
        require(heads != "split" or num_heads >= 2, "heads", heads, "merged or interleaved for one head")
        self.pattern = pattern
        self.stride = stride
        self.num_summary = num_summary
        self.causal = causal
        self.heads = heads
        self.merged = heads == "merged"
        self.num_near = _near_heads(heads, num_heads, self.layer_index)
        self.keys: _Strided | _Fixed = (
            _Strided(stride, causal) if pattern == "strided" else _Fixed(stride, num_summary, causal)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        if not self._is_dense(length):
            x, mask = whole_blocks(x, mask, self.stride)
        return super().forward(x, mask)[:, :length]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        length = query.shape[2]
        if self._is_dense(length):
            return self._attend_dense(query, key, value, mask)
        query = query / math.sqrt(self.head_dim)
        real = torch.ones(1, length, dtype=torch.bool, device=query.device) if mask is None else mask
        real = real.unflatten(1, (-1, self.stride))  # (b or 1, m, l): m blocks of l tokens
        if self.merged:
            return self._attend_merged(query, key, value, real)
        near, far = [
            (query[:, part], key[:, part], value[:, part])
            for part in (slice(None, self.num_near), slice(self.num_near, None))
        ]
        parts = []
        if self.num_near:
            parts.append(self._attend_near(*near, real))
        if self.num_near < self.num_heads:
            parts.append(self._attend_far(*far, real))
        return torch.cat(parts, dim=1)

    def _is_dense(self, length: int) -> bool:
        """Within one block the near set is the whole sequence, and the far set part of it."""
        return self.merged and length <= self.stride

    def _attend_dense(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        length = query.shape[2]
        seen = None if mask is None else key_mask(mask)
        if seen is not None and self.causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=seen,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=self.causal and seen is None,
        )

    def _attend_merged(self, query: Tensor, key: Tensor, value: Tensor, real: Tensor) -> Tensor:
        keys = self.keys
        query, key, value = keys.blocks(query), keys.blocks(key, True), keys.blocks(value, True)
        scores = [*keys.near_scores(query, key), keys.far_scores(query, key)]
        # One softmax over both sets. The far one leaves out what the near one has: no key counts twice.
        weights = self._softmax(scores, [*keys.near_seen(real), keys.far_seen(real)])
        *near, far = weights.split([part.shape[-1] for part in scores], dim=-1)
        return keys.tokens(keys.near_mix(near, value) + keys.far_mix(far, value))

    def _attend_near(self, query: Tensor, key: Tensor, value: Tensor, real: Tensor) -> Tensor:
        keys = self.keys
        query, key, value = keys.blocks(query), keys.blocks(key, True), keys.blocks(value, True)
        scores = keys.near_scores(query, key)
        weights = self._softmax(scores, keys.near_seen(real))
        return keys.tokens(keys.near_mix(weights.split(self.stride, dim=-1), value))

    def _attend_far(self, query: Tensor, key: Tensor, value: Tensor, real: Tensor) -> Tensor:
        keys = self.keys
        query, key, value = keys.blocks(query), keys.blocks(key), keys.blocks(value)
        # A token sees itself too: where its row has no other token of the set, nothing would be left.
        own, far = (query * key).sum(-1, keepdim=True), keys.far_scores(query, key)
        seen = keys.far_seen(real, alone=True)
        weights = self._softmax([own, far], [torch.ones_like(seen[..., :1]), seen])
        own, far = weights.split([1, far.shape[-1]], dim=-1)
        return keys.tokens(own * value + keys.far_mix(far, value))

    def _softmax(self, scores: list[Tensor], seen: list[Tensor]) -> Tensor:
        """Of the scores of several sets of keys side by side, where they are seen."""
        shape = torch.broadcast_shapes(*(part.shape[:-1] for part in seen))
        hidden = ~torch.cat([part.expand(*shape, -1) for part in seen], dim=-1)
        logits = torch.cat(scores, dim=-1)
        # Added rather than filled in, so that no mask is kept for the backward pass.
        logits += torch.zeros_like(hidden, dtype=logits.dtype).masked_fill_(hidden, -math.inf)
        weights = logits.softmax(dim=-1)
        return F.dropout(weights, self.dropout) if self.training and self.dropout else weights

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        pattern: Literal["strided", "fixed"] = "strided",
        stride: int | None = 64,
        num_summary: int = 16,
        causal: bool = False,
        heads: Literal["merged", "split", "interleaved"] = "merged",
        layer_index: int = 0,
        **options: Any,
    ) -> Cost:
        """Q K^T and A V: 2 n s e per head each, n filled up to whole blocks and s the keys of both sets.

        Kept are the s weights of each token and head. stride=None is taken as that of max_length = length.
        """
        stride = max(1, round(math.sqrt(length))) if stride is None else stride
        inner = num_heads * head_dim
        if heads == "merged" and length <= stride:
            projections = cls.projection_cost(length, dim, num_heads, head_dim)
            return Cost(
                projections.flops + 4 * length * length * inner,
                projections.activation_bytes + 4 * length * num_heads,  # log-sum-exp
            )
        padded = length + -length % stride
        blocks = padded // stride
        around = 0 if pattern == "fixed" or blocks == 1 else 1 if causal else 2
        near = (1 + around) * stride
        far = blocks * (num_summary if pattern == "fixed" else 1)
        projections = cls.projection_cost(padded, dim, num_heads, head_dim)
        num_near = num_far = num_heads
        if heads != "merged":
            num_near = _near_heads(heads, num_heads, layer_index)
            num_far = num_heads - num_near
        kept = padded * (num_near * near + num_far * far)  # weights
        kept += 2 * around * stride * num_near * head_dim  # keys and values of the empty blocks at the ends
        if heads != "merged":
            kept += padded * num_far  # weights of the token itself
        if pattern == "fixed" and num_summary < stride:
            kept += 2 * far * num_far * head_dim  # keys and values of the summaries
        return Cost(
            projections.flops + 4 * padded * (num_near * near + num_far * far) * head_dim,
            projections.activation_bytes + 4 * kept,
        )


def _near_heads(heads: str, num_heads: int, layer_index: int) -> int:
    """How many heads see the near set."""
    if heads == "interleaved":
        return 0 if layer_index % 2 else num_heads
    return num_heads // 2 if heads == "split" else num_heads


class _Strided:
    """Blocks first, (m, b, h, l, e): neighbouring blocks and every l-th token are then views of it."""

    def __init__(self, stride: int, causal: bool) -> None:
        self.stride = stride
        self.causal = causal

    def around(self, blocks: int) -> tuple[int, int]:
        """Blocks seen before and after a token's own."""
        return (0, 0) if blocks == 1 else (1, 0 if self.causal else 1)

    def blocks(self, x: Tensor, padded: bool = False) -> Tensor:
        """(b, h, n, e) -> (m, b, h, l, e); keys and values with an empty block at the ends."""
        x = x.unflatten(2, (-1, self.stride)).permute(2, 0, 1, 3, 4)
        before, after = self.around(len(x)) if padded else (0, 0)
        if before or after:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, 0, before, after))
        return x.contiguous()

    def tokens(self, x: Tensor) -> Tensor:
        """(m, b, h, l, e) -> (b, h, n, e)"""
        return x.permute(1, 0, 3, 2, 4).flatten(1, 2).transpose(1, 2)

    def near_scores(self, query: Tensor, key: Tensor) -> list[Tensor]:
        """(m, b, h, l, l) for each block in reach."""
        return [query @ part.transpose(-2, -1) for part in self._shifted(key, len(query))]

    def near_mix(self, weights: Sequence[Tensor], value: Tensor) -> Tensor:
        parts = self._shifted(value, len(weights[0]))
        mixed = weights[0] @ parts[0]
        for weight, part in zip(weights[1:], parts[1:], strict=True):
            mixed = mixed + weight @ part
        return mixed

    @staticmethod
    def _shifted(padded: Tensor, blocks: int) -> list[Tensor]:
        return [padded[shift : shift + blocks] for shift in range(len(padded) - blocks + 1)]

    def near_seen(self, real: Tensor) -> list[Tensor]:
        """|i - j| < l, of each block in reach: (m, b, 1, l, l)"""
        stride, blocks = self.stride, real.shape[1]
        before, after = self.around(blocks)
        inside = torch.arange(stride, device=real.device)
        there = F.pad(real, (0, 0, before, after)).transpose(0, 1)[:, :, None, None]  # (m + ends, b, 1, 1, l)
        seen = []
        for shift, part in enumerate(self._shifted(there, blocks)):
            distance = inside[:, None] - (inside + (shift - before) * stride)  # i - j
            near = (distance >= 0 if self.causal else distance > -stride) & (distance < stride)
            # A pad sees itself: a softmax over nothing is NaN.
            seen.append(near & part | (distance == 0))
        return seen

    def far_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Within every column, the tokens of equal remainder: (m, b, h, l, m)"""
        key = self._without_ends(key, len(query))
        column = query.permute(1, 2, 3, 0, 4) @ key.permute(1, 2, 3, 4, 0)  # (b, h, l, m, m)
        return column.permute(3, 0, 1, 2, 4)

    def far_mix(self, weights: Tensor, value: Tensor) -> Tensor:
        value = self._without_ends(value, len(weights))
        column = weights.permute(1, 2, 3, 0, 4) @ value.permute(1, 2, 3, 0, 4)  # (b, h, l, m, e)
        return column.permute(3, 0, 1, 2, 4)

    def far_seen(self, real: Tensor, alone: bool = False) -> Tensor:
        """(i - j) mod l = 0 and j not i, which is the only one of them in the near set: (m, b, 1, l, m)"""
        block = torch.arange(real.shape[1], device=real.device)
        other = block[:, None] > block if self.causal else block[:, None] != block  # (m, m)
        return other[:, None, None, None] & real.transpose(1, 2)[:, None]

    @staticmethod
    def _without_ends(padded: Tensor, blocks: int) -> Tensor:
        before = min(len(padded) - blocks, 1)
        return padded[before : before + blocks]


class _Fixed:
    """Blocks in their order, (b, h, m, l, e): a token's own block and all summaries are views of it."""

    def __init__(self, stride: int, num_summary: int, causal: bool) -> None:
        self.stride = stride
        self.num_summary = num_summary
        self.causal = causal

    def blocks(self, x: Tensor, padded: bool = False) -> Tensor:
        """(b, h, n, e) -> (b, h, m, l, e)"""
        return torch.unflatten(x, 2, (-1, self.stride)).contiguous()

    def tokens(self, x: Tensor) -> Tensor:
        """(b, h, m, l, e) -> (b, h, n, e)"""
        return x.flatten(2, 3)

    def near_scores(self, query: Tensor, key: Tensor) -> list[Tensor]:
        """(b, h, m, l, l) of a token's own block."""
        return [query @ key.transpose(-2, -1)]

    def near_mix(self, weights: Sequence[Tensor], value: Tensor) -> Tensor:
        return weights[0] @ value

    def near_seen(self, real: Tensor) -> list[Tensor]:
        """floor(j / l) = floor(i / l): (b, 1, m, l, l)"""
        inside = torch.arange(self.stride, device=real.device)
        distance = inside[:, None] - inside
        near = distance >= 0 if self.causal else distance.abs() < self.stride
        return [near & real[:, None, :, None] | (distance == 0)]

    def far_scores(self, query: Tensor, key: Tensor) -> Tensor:
        """With the last c tokens of every block: (b, h, m, l, m c)"""
        scores = query.flatten(2, 3) @ self.summaries(key).transpose(-2, -1)  # (b, h, n, m c)
        return torch.unflatten(scores, 2, query.shape[2:4])

    def far_mix(self, weights: Tensor, value: Tensor) -> Tensor:
        mixed = weights.flatten(2, 3) @ self.summaries(value)  # (b, h, n, e)
        return torch.unflatten(mixed, 2, weights.shape[2:4])

    def summaries(self, x: Tensor) -> Tensor:
        """(b, h, m, l, e) -> (b, h, m c, e)"""
        return x[..., -self.num_summary :, :].flatten(2, 3)

    def far_seen(self, real: Tensor, alone: bool = False) -> Tensor:
        """j mod l >= l - c, of other blocks only unless `alone`: (b, 1, m, l, m c)"""
        block = torch.arange(real.shape[1], device=real.device)
        other = block[:, None] > block if self.causal else block[:, None] != block
        seen = other[:, None, :, None]  # (m, 1, m, 1)
        if alone:
            inside = torch.arange(self.stride, device=real.device)
            distance = inside[:, None] - inside[-self.num_summary :]  # (l, c)
            own = (block[:, None] == block)[:, None, :, None]
            seen = seen | own & (distance > 0 if self.causal else distance != 0)[:, None]  # (m, l, m, c)
        return (seen & real[:, None, None, None, :, -self.num_summary :]).flatten(-2)
