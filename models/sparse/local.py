"""Local attention: softmax attention within contiguous blocks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, key_mask, whole_blocks


class Local(MultiHeadMixer):
    """Each token attends to the tokens of its own block, and to `look_around` blocks on either side.

    Long Range Arena: A Benchmark for Efficient Transformers. Tay, Dehghani, Abnar, Shen, Bahri,
    Pham, Rao, Yang, Ruder, Metzler, 2020, arXiv 2011.04006, the baseline "Local Attention". Blocks
    are contiguous, as the paper has it; in the code of its release they are strided.

    block_size: tokens per block. The release sets 64 for images and Pathfinder and 50 elsewhere;
        64 is the default because it divides the usual lengths, so that no block is part padding.
    look_around: blocks seen on either side; none in the paper.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        block_size: int = 64,
        look_around: int = 0,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(block_size >= 1, "block_size", block_size, "at least 1")
        require(look_around >= 0, "look_around", look_around, "at least 0")
        self.block_size = block_size
        self.look_around = look_around

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        return super().forward(*whole_blocks(x, mask, self.block_size))[:, :length]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        batch, _, length, _ = query.shape
        if self.look_around and mask is None:
            mask = torch.ones(batch, length, dtype=torch.bool, device=query.device)  # to mask the ends
        seen = None if mask is None else key_mask(self._windows(mask[:, None, :, None]).flatten(1))
        mixed = F.scaled_dot_product_attention(
            self._blocks(query),
            self._windows(key),
            self._windows(value),
            attn_mask=seen,
            dropout_p=self.dropout if self.training else 0.0,
        )  # (b * blocks, h, w, e)
        return mixed.transpose(1, 2).reshape(batch, length, self.num_heads, self.head_dim).transpose(1, 2)

    def _blocks(self, x: Tensor) -> Tensor:
        """(b, h, n, e) -> (b * blocks, h, w, e), a view: blocks are just more sequences."""
        _, heads, _, width = x.shape
        return x.transpose(1, 2).reshape(-1, self.block_size, heads, width).transpose(1, 2)

    def _windows(self, x: Tensor) -> Tensor:
        """(b, h, n, e) -> (b * blocks, h, (2 * look_around + 1) * w, e): what each block sees."""
        if not self.look_around:
            return self._blocks(x)
        reach = self.look_around * self.block_size
        padded = F.pad(x, (0, 0, reach, reach)).transpose(1, 2)  # (b, n + 2 reach, h, e)
        windows = padded.unfold(1, 2 * reach + self.block_size, self.block_size)  # (b, blocks, h, e, s)
        return windows.movedim(-1, 2).flatten(0, 1).transpose(1, 2)

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        block_size: int = 64,
        look_around: int = 0,
        **options: Any,
    ) -> Cost:
        """Q K^T and A V: 2 n s e per head each, for n filled up to whole blocks and s tokens seen."""
        padded = length + -length % block_size
        seen = (2 * look_around + 1) * block_size
        inner = num_heads * head_dim
        projections = cls.projection_cost(padded, dim, num_heads, head_dim)
        kept = padded * num_heads  # log-sum-exp
        if look_around:
            kept += 2 * padded // block_size * seen * inner  # keys and values, once for each block
        if padded > length or look_around:
            kept += padded // block_size * seen  # the mask, as numbers
        return Cost(
            projections.flops + 4 * padded * seen * inner,
            projections.activation_bytes + 4 * kept,
        )
