"""BigBird's block-sparse attention in Hugging Face transformers."""

from __future__ import annotations

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

PACKAGE = "transformers==5.23.0"


class BigBirdPeer(nn.Module):
    """BigBirdBlockSparseAttention with the last projection, given masks as BigBirdModel makes them."""

    def __init__(
        self, dim: int, num_heads: int, max_length: int, block_size: int, num_random_blocks: int
    ) -> None:
        from transformers import BigBirdConfig
        from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

        super().__init__()
        config = BigBirdConfig(
            hidden_size=dim,
            num_attention_heads=num_heads,
            block_size=block_size,
            num_random_blocks=num_random_blocks,
            max_position_embeddings=max_length,
        )
        self.attention = BigBirdBlockSparseAttention(config, seed=0)
        self.out = nn.Linear(dim, dim)
        self.block_size = block_size

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        from transformers.models.big_bird.modeling_big_bird import BigBirdModel

        given = x.new_ones(x.shape[:2]) if mask is None else mask.to(x.dtype)
        blocked, band, queries, keys = BigBirdModel.create_masks_for_block_sparse_attn(given, self.block_size)
        mixed = self.attention(
            x,
            band_mask=band,
            from_mask=queries,
            to_mask=keys,
            from_blocked_mask=blocked,
            to_blocked_mask=blocked,
        )[0]
        return self.out(mixed)


class PlannedPeer(BigBirdPeer):
    """With a plan of its own for eight blocks of four tokens: in evaluation the package's is all zeros."""

    def __init__(self, num_random_blocks: int) -> None:
        super().__init__(SIZES.dim, SIZES.num_heads, SIZES.max_length, 4, num_random_blocks)
        shape = (SIZES.num_heads, 6, num_random_blocks)  # for the blocks that are not global
        self.register_buffer("plan", torch.zeros(shape, dtype=torch.long))
        for head in range(shape[0]):
            for row in range(shape[1]):
                # Neither near nor global: three to four blocks are left.
                left = [block for block in range(1, 7) if abs(block - row - 1) > 1]
                order = torch.randperm(len(left))[:num_random_blocks]
                self.plan[head, row] = torch.tensor(left)[order]
        self.attention._bigbird_block_rand_mask_with_head = lambda **_: list(self.plan.numpy())


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    return peer(x, mask)


def give(mixer: nn.Module, state: Weights) -> None:
    for part in ("weight", "bias"):
        parts = [state[f"attention.{name}.{part}"] for name in ("query", "key", "value")]
        assign(getattr(mixer.input_projection, part), torch.cat(parts))
        assign(getattr(mixer.output_projection, part), state[f"out.{part}"])
    # Global blocks see everything anyway: any blocks will do for them.
    plan = torch.nn.functional.pad(state["plan"].long(), (0, 0, 1, 1))[None]
    mixer.random = lambda num_blocks, real: (plan, (plan > 0).expand(real.shape[0], -1, -1, -1))


PARITIES = {
    f"random-{count}": Parity(
        PACKAGE,
        lambda count=count: PlannedPeer(count),
        run,
        give,
        {"block_size": 4, "num_random_blocks": count},
        lengths=(32, 31, 29),
        remark="a frozen plan for its random blocks; all rows end in the last block",
    )
    for count in (1, 3)
}

SPEEDS = [Speed("transformers 5.23.0 BigBirdBlockSparseAttention", lambda n: BigBirdPeer(128, 4, n, 64, 3))]
