"""Attention without scores: every token mixes what is near it with what is anywhere."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer


class NearFar(MultiHeadMixer):
    """g_i near_i + (1 - g_i) far: two means of the values, of a window and of all tokens, mixed by a gate.

    A token weighs w_j = sigmoid(k_j) in both means, its gate is g_i = sigmoid(q_i); both are element-wise,
    so time and memory are linear in the length.

    window: how many tokens the near mean is over, an odd number.
    """

    card: ClassVar = {
        "time": "n d",
        "memory": "n d",
        "formula": "g_i sum_|i-j|<=r w_j v_j / sum_|i-j|<=r w_j + (1 - g_i) sum_j w_j v_j / sum_j w_j",
        "recall_limit": "A mean over a window or over everything can't look one token up among many.",
    }

    def __init__(self, dim: int, num_heads: int, *, window: int = 9, **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        require(window >= 1 and window % 2 == 1, "window", window, "an odd number of tokens")
        self.window = window

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        gate, weight = query.sigmoid(), key.sigmoid()  # (b, h, n, e)
        if mask is not None:
            weight = weight * mask[:, None, :, None]  # padding weighs nothing
        weighted = weight * value
        # Where there is nothing but padding, nothing is divided by this instead of by nothing.
        least = torch.finfo(weight.dtype).tiny
        near = self._windows(weighted) / (self._windows(weight) + least)
        far = weighted.sum(2, keepdim=True) / (weight.sum(2, keepdim=True) + least)  # (b, h, 1, e)
        return torch.lerp(far, near, gate)

    def _windows(self, x: Tensor) -> Tensor:
        """(b, h, n, e) -> the sum over each token's window, by its width; beyond the ends are zeros."""
        columns = x.transpose(2, 3).flatten(0, 1)  # (b * h, e, n)
        sums = F.avg_pool1d(columns, self.window, stride=1, padding=self.window // 2)
        return sums.unflatten(0, x.shape[:2]).transpose(2, 3)

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """Matrix products are in the projections alone.

        Kept for backward beside theirs: gate, weight; of the near mean the two things that are summed, both
        sums and itself; of the far mean both sums and itself, once for all tokens.
        """
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        kept = num_heads * head_dim * (7 * length + 3)
        return Cost(projections.flops, projections.activation_bytes + 4 * kept)
