"""The package `reformer-pytorch`, its rotations kept, without the first chunk's look around the end."""

from __future__ import annotations

from unittest import mock

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

PACKAGE = "reformer-pytorch==1.4.4"
SIZE = 8
BUCKETS = SIZES.max_length // SIZE


class Peer(nn.Module):
    """Its attention and the rotations that it shall draw."""

    def __init__(self, full: bool) -> None:
        super().__init__()
        from reformer_pytorch.reformer_pytorch import LSHSelfAttention

        self.attention = LSHSelfAttention(
            SIZES.dim,
            heads=SIZES.num_heads,
            dim_head=SIZES.head_dim,
            bucket_size=SIZE,
            n_hashes=1,
            use_full_attn=full,
            return_attn=False,
        )
        self.register_buffer("rotations", torch.randn(SIZES.head_dim, 1, BUCKETS // 2))


def run_full(peer: Peer, x: Tensor, mask: Tensor) -> Tensor:
    return peer.attention(x, input_mask=mask)


def run_one_round(peer: Peer, x: Tensor, mask: Tensor) -> Tensor:
    """Once for the buckets; once more without the pairs of the first chunk and the last."""
    attention = peer.attention
    buckets: list[Tensor] = []
    attention.callback = lambda _, found: buckets.append(found)
    with mock.patch("torch.randn", return_value=peer.rotations[None]):
        attention(x)
        batch, length, _ = x.shape
        # (b * h, n): the chunk that each token is sorted to
        order = (buckets[0].flatten(0, 1) * length + torch.arange(length)).argsort(-1)
        chunk = order.argsort(-1) // SIZE
        around = (chunk[:, :, None] == 0) & (chunk[:, None, :] == length // SIZE - 1)
        attention.callback = None
        lsh, heads = attention.lsh_attn, SIZES.num_heads

        def split(part: Tensor) -> Tensor:
            return part.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)

        # What the layer does around it, since its own mask is the same for all heads.
        mixed = lsh(split(attention.toqk(x)), split(attention.tov(x)), input_attn_mask=~around)[0]
    return attention.to_out(mixed.unflatten(0, (batch, heads)).transpose(1, 2).flatten(2))


def give(mixer: nn.Module, state: Weights) -> None:
    assign(
        mixer.input_projection.weight,
        torch.cat([state["attention.toqk.weight"], state["attention.tov.weight"]]),
    )
    nn.init.zeros_(mixer.input_projection.bias)
    assign(mixer.output_projection.weight, state["attention.to_out.weight"])
    assign(mixer.output_projection.bias, state["attention.to_out.bias"])
    if mixer.chunk_size is not None:
        assign(mixer.rotations, state["rotations"].flatten(1))


def speed_peer(length: int) -> nn.Module:
    from reformer_pytorch.reformer_pytorch import LSHSelfAttention

    return LSHSelfAttention(128, heads=4, bucket_size=64, n_hashes=4)


PARITIES = {
    "one-round": Parity(
        PACKAGE,
        lambda: Peer(full=False),
        run_one_round,
        give,
        {"num_hashes": 1, "chunk_size": SIZE, "num_buckets": BUCKETS},
        lengths=(32, 32),
        remark="one round, the same rotations, no look from the first chunk around to the last",
    ),
    "whole": Parity(
        PACKAGE,
        lambda: Peer(full=True),
        run_full,
        give,
        {"chunk_size": None},
        remark="its use_full_attn, which is the limit of one chunk",
    ),
}

SPEEDS = [Speed("reformer-pytorch 1.4.4", speed_peer, {"num_hashes": 4})]
"""The peer counts repeated pairs as often as they come, its default; ours also discounts them."""
