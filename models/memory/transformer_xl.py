"""Transformer-XL: each segment attends to itself and to a memory of the tokens before it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, merge_heads, split_heads, whole_blocks
from lra_bench.models.memory.relative_attention import PlainScores, RelativeScores, look_back, segments


class TransformerXL(MultiHeadMixer):
    """softmax over [SG(memory); segment], with scores (q_i + u) k_j + (q_i + v) W_r R_{i-j}.

    Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context. Dai, Yang, Yang,
    Carbonell, Le, Salakhutdinov, 2019, arXiv 1901.02860, sections 3.2 and 3.3.

    The memory of a layer is what that layer got for the tokens before the segment, with no gradient to
    them. All of it is at hand once the layer below is done, so all segments are computed at once: the
    same numbers as one segment after the other.

    segment_length: tokens per segment. The paper's own depend on the data (150 to 512 in the scripts of
        its release); 128 divides the lengths of the tasks.
    memory_length: tokens before the segment that it sees too; 0 for none, and more than a segment is
        fine. As long as the segment by default, as the paper trains (section 3.2).
    relative_positions: False leaves plain dot products (section 3.3 is then switched off).
    stop_gradient: False lets gradients through to the memory's tokens, unlike the paper.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        segment_length: int = 128,
        memory_length: int = 128,
        relative_positions: bool = True,
        stop_gradient: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(segment_length >= 1, "segment_length", segment_length, "at least 1")
        require(memory_length >= 0, "memory_length", memory_length, "at least 0")
        self.segment_length = segment_length
        self.memory_length = memory_length
        self.stop_gradient = stop_gradient
        self.scores = RelativeScores(dim, num_heads, self.head_dim) if relative_positions else PlainScores()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        # A sequence shorter than a segment is one.
        x, mask = whole_blocks(x, mask, min(self.segment_length, length))
        query, key, value = self.project(x)
        mixed = merge_heads(self.attend(query, key, value, mask))
        output: Tensor = self.output_projection(mixed)
        return output[:, :length]

    def reach(self, length: int) -> int:
        """Tokens of memory that a segment of a sequence of whole segments can have."""
        return min(self.memory_length, length - min(self.segment_length, length))

    def project(self, x: Tensor, slots: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, d) -> query (b, h, n, e), key and value (b, h, n or 2 n, e), and after those of `slots`.

        Where memories get no gradient, keys and values come twice, the second time from a detached
        input: the same numbers, from which the weights learn and the tokens don't.
        slots: (b, k, d), further hidden states to be keys and values, for variants that have some.
        """
        query, key, value = super().project(x)
        hidden = [x.detach()] if self.stop_gradient and self.reach(x.shape[1]) else []
        if slots is not None:
            hidden.append(slots)
        if hidden:
            more = [self.project_hidden(part) for part in hidden]
            key = torch.cat([key, *(part[0] for part in more)], dim=2)
            value = torch.cat([value, *(part[1] for part in more)], dim=2)
        return query, key, value

    def project_hidden(self, x: Tensor, frozen: bool = False) -> tuple[Tensor, Tensor]:
        """(b, n, d) -> key and value (b, h, n, e); frozen: with weights that get no gradient from it."""
        inner = self.num_heads * self.head_dim
        weight, bias = self.input_projection.weight[inner:], self.input_projection.bias[inner:]
        if frozen:
            # Copies that are detached: `detach_` would stop the parameters themselves from learning.
            weight, bias = weight.detach(), bias.detach()
        key, value = F.linear(x, weight, bias).chunk(2, dim=-1)
        return split_heads(key, self.num_heads), split_heads(value, self.num_heads)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """query: (b, h, n, e); key, value: (b, h, n or 2 n, e); mask: (b, n) or None -> (b, h, n, e)"""
        length = query.shape[2]
        mixed: Tensor = self.scores(
            segments(self.scores.arrange(query), min(self.segment_length, length), self.scores.axis),
            self.window(key, length),
            self.window(value, length),
            self.seen(query, mask),
            self.dropout if self.training else 0.0,
        )  # (b, t, s, h, e)
        return mixed.flatten(1, 2).transpose(1, 2)

    def window(self, x: Tensor, length: int) -> Tensor:
        """(b, h, n or 2 n, e) -> memory and segment side by side, m + s tokens, as `scores` takes them."""
        parts = self.parts(x, length)
        return torch.cat(parts, dim=self.scores.axis + 1) if len(parts) > 1 else parts[0]

    def parts(self, x: Tensor, length: int) -> list[Tensor]:
        """What a window consists of, from the oldest to the segment itself."""
        own, *others = x.split(length, dim=2)  # with slots at the end, which are fewer than n
        old = others[0] if others and others[0].shape[2] == length else own
        axis, segment = self.scores.axis, min(self.segment_length, length)
        recent = segments(self.scores.arrange(own), segment, axis)
        reach = self.reach(length)
        if not reach:
            return [recent]
        return [look_back(self.scores.arrange(old), reach, segment, length // segment, axis), recent]

    def seen(self, query: Tensor, mask: Tensor | None) -> Tensor | None:
        """(b, t, k) bool: what each segment may look at; None for everything."""
        batch, _, length, _ = query.shape
        count = length // min(self.segment_length, length)
        if mask is None:
            if count == 1:
                return None
            mask = torch.ones(1, length, dtype=torch.bool, device=query.device)
        window = self.window(self.real(mask)[:, None, :, None], length)
        return window.reshape(len(mask), count, -1).expand(batch, -1, -1)

    def real(self, mask: Tensor) -> Tensor:
        """(b, n) -> (b, n) bool, True where there is a key to look at."""
        return mask

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        segment_length: int = 128,
        memory_length: int = 128,
        relative_positions: bool = True,
        stop_gradient: bool = True,
        **options: Any,
    ) -> Cost:
        """For n filled up to whole segments of s, each of which sees k = m + s tokens: Q K^T and A V are
        2 n k e a head each, the scores of distances 2 n (s + k) e."""
        segment = min(segment_length, length)
        padded = length + -length % segment
        reach = min(memory_length, padded - segment)
        return cls.windowed_cost(
            padded,
            dim,
            num_heads,
            head_dim,
            segment=segment,
            window=segment + reach,
            relative_positions=relative_positions,
            remembered=stop_gradient and reach > 0,
            masked=padded > segment or padded > length,
        )

    @classmethod
    def windowed_cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        head_dim: int,
        *,
        segment: int,
        window: int,
        relative_positions: bool,
        remembered: bool,
        masked: bool,
    ) -> Cost:
        """Of `length` tokens in whole segments, each attending to `window` keys."""
        inner = num_heads * head_dim
        seen = length // segment * window  # keys of all segments
        flops = 8 * length * dim * inner + 4 * length * window * inner
        if remembered:
            flops += 4 * length * dim * inner
        kept = length * (dim + inner)  # the input, and the heads before the last projection
        if relative_positions:
            distances = segment + window
            flops += 2 * distances * inner * (dim + length)
            # q + u, q + v, keys and values of all windows, and the weights.
            kept += 2 * length * inner + 2 * seen * inner + length * window * num_heads
        else:
            # Query, key and value, windows of the latter two, a log-sum-exp and the mask as numbers.
            kept += 3 * length * inner + length * num_heads
            kept += 2 * seen * inner if window > segment else 0
            kept += seen if masked else 0
        return Cost(flops, 4 * kept)
