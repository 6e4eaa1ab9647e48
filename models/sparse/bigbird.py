"""BigBird: block-sparse softmax attention over a window, two global blocks and random blocks."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, key_mask, whole_blocks

Number = TypeVar("Number", int, Tensor)
Blocks = tuple[Tensor, Tensor]
"""Which block each slot of a query's block holds, and whether it counts; both broadcast to (b, h, m, s)."""


class BigBird(MultiHeadMixer):
    """Each block of tokens attends to the blocks around it, the first, the last and some random ones, in one
    softmax; the first and the last block attend to everything.

    Big Bird: Transformers for Longer Sequences. Zaheer, Guruganesh, Dubey, Ainslie, Alberti, Ontanon,
    Pham, Ravula, Wang, Yang, Ahmed, 2020, arXiv 2007.14062, in its internal construction (ITC), which
    makes tokens of the sequence global. Defaults are those of BigBird-ITC base (Table 8). Which block is
    the last, and which can be drawn, goes by the real tokens of a row.

    block_size: tokens in a block.
    window_blocks: blocks around a block that it sees, itself included: an odd number; 0 for none.
    num_global_blocks: 2 for the first and the last block, 1 for the first only, 0 for none.
    num_random_blocks: others that a block sees besides, drawn from all the rest of the sequence for each
        head and block; fewer where fewer are left.
    seed: of the random blocks, together with the layer. They are the same in training and evaluation.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        block_size: int = 64,
        window_blocks: int = 3,
        num_global_blocks: int = 2,
        num_random_blocks: int = 3,
        seed: int = 0,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(block_size >= 1, "block_size", block_size, "at least 1")
        require(
            window_blocks == 0 or (window_blocks > 0 and window_blocks % 2 == 1),
            "window_blocks",
            window_blocks,
            "an odd number, or 0",
        )
        require(num_global_blocks in (0, 1, 2), "num_global_blocks", num_global_blocks, "0, 1 or 2")
        require(num_random_blocks >= 0, "num_random_blocks", num_random_blocks, "at least 0")
        require(
            window_blocks + num_global_blocks + num_random_blocks > 0,
            "window_blocks",
            window_blocks,
            "window, global or random blocks to attend to",
        )
        require(0 <= seed < 2**32, "seed", seed, "in [0, 2^32)")
        self.block_size = block_size
        self.window_blocks = window_blocks
        self.num_global_blocks = num_global_blocks
        self.num_random_blocks = num_random_blocks
        self.seed = seed

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        return super().forward(*whole_blocks(x, mask, min(self.block_size, length)))[:, :length]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        batch, heads, length, _ = query.shape
        block = min(self.block_size, length)
        lengths = (
            torch.full((1,), length, device=query.device)
            if mask is None
            else mask.sum(dim=-1)  # (b,), of right-padded rows
        )
        real = ((lengths + block - 1) // block).clamp(min=1)[:, None, None, None]  # blocks with any token
        chosen, counted = self.plan(length // block, real)  # (b or 1, h, m, s)
        # Where the blocks of each row and head begin, among those of all.
        start = torch.arange(0, batch * length * heads, length, device=query.device).view(batch, heads, 1, 1)
        rows = (start // block + chosen).transpose(1, 2).flatten(0, 1)  # (b * m, h, s)
        dropout = self.dropout if self.training else 0.0

        blocks = query.transpose(1, 2).unflatten(1, (-1, block))  # (b, m, c, h, e), a view
        mixed = F.scaled_dot_product_attention(
            blocks.flatten(0, 1).transpose(1, 2),  # (b * m, h, c, e)
            self.gather_blocks(key, rows, block),  # (b * m, h, s * c, e)
            self.gather_blocks(value, rows, block),
            attn_mask=self.seen(chosen, counted, lengths, block, batch),
            dropout_p=dropout,
        )
        mixed = mixed.transpose(1, 2).unflatten(0, (batch, -1))  # (b, m, c, h, e)
        if self.num_global_blocks:
            last = real.flatten().expand(batch) - 1
            edges = torch.stack([blocks[:, 0], blocks[torch.arange(batch, device=last.device), last]], dim=1)
            edges = edges[:, : self.num_global_blocks].flatten(1, 2)  # (b, g * c, h, e)
            edges = F.scaled_dot_product_attention(
                edges.transpose(1, 2),
                key,
                value,
                attn_mask=None if mask is None else key_mask(mask),
                dropout_p=dropout,
            )
            mixed = self.put_edges(mixed, edges.transpose(1, 2).unflatten(1, (-1, block)), last)
        return mixed.flatten(1, 2).transpose(1, 2)

    def put_edges(self, mixed: Tensor, edges: Tensor, last: Tensor) -> Tensor:
        """(b, m, c, h, e) with the results of global blocks (b, g, c, h, e) in their places."""
        index = torch.arange(mixed.shape[1], device=mixed.device)[None, :, None, None, None]
        if self.num_global_blocks == 2:
            mixed = torch.where(index == last[:, None, None, None, None], edges[:, 1:], mixed)
        return torch.where(index == 0, edges[:, :1], mixed)

    def gather_blocks(self, x: Tensor, rows: Tensor, block: int) -> Tensor:
        """(b, h, n, e), (b * m, h, s) -> (b * m, h, s * c, e): blocks by their places among all b * h * m."""
        blocks = x.reshape(-1, block * x.shape[-1])  # (b * h * m, c * e)
        return blocks.index_select(0, rows.flatten()).view(*rows.shape[:2], -1, x.shape[-1])

    def seen(self, chosen: Tensor, counted: Tensor, lengths: Tensor, block: int, batch: int) -> Tensor:
        """(b * m, h, 1, s * c) bool: which of the gathered keys count."""
        position = chosen[..., None] * block + torch.arange(block, device=chosen.device)
        real = counted[..., None] & (position < lengths[:, None, None, None, None])  # (b or 1, h, m, s, c)
        real = real.flatten(3).transpose(1, 2).expand(batch, -1, -1, -1).flatten(0, 1)
        # Where padding sees nothing, all is seen: a softmax over nothing is NaN in some kernels.
        return (real | ~real.any(dim=-1, keepdim=True))[:, :, None, :]

    def plan(self, num_blocks: int, real: Tensor) -> Blocks:
        """Real blocks (b or 1, 1, 1, 1) of `num_blocks` -> blocks that each block sees, (b or 1, h, m, s).

        No block counts twice, whatever it is: window, global or random.
        """
        parts = [self.global_blocks(real), self.window(num_blocks, real), self.random(num_blocks, real)]
        shape = (real.shape[0], self.num_heads, num_blocks, -1)
        chosen = torch.cat([slots.expand(shape) for slots, _ in parts], dim=-1)
        counted = torch.cat([counts.expand(shape) for _, counts in parts], dim=-1)
        if chosen.shape[-1] > num_blocks:
            # More slots than blocks: every block gets one, and counts if it was in any.
            every = torch.arange(num_blocks, device=real.device)
            counted = ((chosen[..., None] == every) & counted[..., None]).any(dim=-2)
            chosen = every.expand(counted.shape)
        return chosen, counted

    def is_global(self, index: Tensor, real: Tensor) -> Tensor:
        """Whether blocks are global in a row of so many real blocks."""
        first = (index == 0) & (self.num_global_blocks >= 1)
        return first | ((index == real - 1) & (self.num_global_blocks == 2))

    def global_blocks(self, real: Tensor) -> Blocks:
        """(b or 1, 1, 1, g): the first and the last one, which is the first if there is but one."""
        chosen = torch.cat([torch.zeros_like(real), real - 1], dim=-1)
        counted = torch.cat([torch.ones_like(real, dtype=torch.bool), real > 1], dim=-1)
        return chosen[..., : self.num_global_blocks], counted[..., : self.num_global_blocks]

    def window(self, num_blocks: int, real: Tensor) -> Blocks:
        """(b or 1, 1, m, w): neighbours, without the global ones."""
        own = torch.arange(num_blocks, device=real.device)[:, None]
        half = self.window_blocks // 2
        index = own + torch.arange(-half, half + 1, device=real.device)[: self.window_blocks]
        counted = (index >= 0) & (index < real) & ~self.is_global(index, real)
        return index.clamp(0, num_blocks - 1)[None, None], counted

    def random(self, num_blocks: int, real: Tensor) -> Blocks:
        """(b or 1, h, m, r): those of highest priority among what is neither near nor global.

        Priorities are a hash of seed, layer, head and the two blocks: an order at random that depends
        neither on the number of blocks nor on padding.
        """
        index = torch.arange(num_blocks, device=real.device)
        layer = scramble(scramble(self.seed) ^ self.layer_index)
        priority = scramble(torch.arange(self.num_heads, device=real.device)[:, None, None] ^ layer)
        priority = scramble(scramble(priority ^ index[:, None]) ^ index)  # (h, m, m)
        priority = priority << 24 | index  # no two are equal
        near = (index[:, None] - index).abs() <= self.window_blocks // 2
        near = near & (self.window_blocks > 0)
        left = (index < real) & ~near & ~self.is_global(index, real)  # (b or 1, 1, m, m)
        drawn = torch.where(left, priority, -1).topk(min(self.num_random_blocks, num_blocks), dim=-1)
        return drawn.indices, drawn.values >= 0

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        block_size: int = 64,
        window_blocks: int = 3,
        num_global_blocks: int = 2,
        num_random_blocks: int = 3,
        **options: Any,
    ) -> Cost:
        """Q K^T and A V: 2 n s c e per head each, for n filled up to whole blocks of c tokens and s blocks
        seen, and 2 g c n e for the g global blocks."""
        block = min(block_size, length)
        filled = length + -length % block
        num_blocks = filled // block
        slots = min(num_blocks, num_global_blocks + window_blocks + min(num_random_blocks, num_blocks))
        inner = num_heads * head_dim
        projections = cls.projection_cost(filled, dim, num_heads, head_dim)
        flops = projections.flops + 4 * filled * slots * block * inner
        kept = 2 * filled * slots * inner  # keys and values, once for each block that sees them
        kept += filled * slots * num_heads  # the mask, as numbers
        kept += filled * num_heads  # log-sum-exp
        kept += 2 * num_blocks * num_heads * slots  # which blocks were gathered, in eight bytes
        if num_global_blocks:
            queries = num_global_blocks * block
            flops += 4 * queries * filled * inner
            kept += filled * inner  # the blocks' result, before the global blocks' is put in
            kept += queries * (2 * inner + num_heads)
            kept += filled if filled > length else 0  # the mask of all keys, as numbers
        return Cost(flops, projections.activation_bytes + 4 * kept)


def scramble(number: Number) -> Number:
    """An integer in [0, 2^32) to another one, one to one, without visible relation."""
    number = number ^ (number >> 16)
    number = number * 0x21F0AAAD & 0xFFFFFFFF
    number = number ^ (number >> 15)
    number = number * 0x735A2D97 & 0xFFFFFFFF
    return number ^ (number >> 15)
