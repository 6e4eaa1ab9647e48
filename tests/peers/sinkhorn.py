"""The package `sinkhorn-transformer`, its simple sort net without noise."""

from __future__ import annotations

from unittest import mock

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

PACKAGE = "sinkhorn-transformer==0.11.4"
MODULE = "sinkhorn_transformer.sinkhorn_transformer"


def build() -> nn.Module:
    from sinkhorn_transformer.sinkhorn_transformer import SinkhornSelfAttention

    peer = SinkhornSelfAttention(
        SIZES.dim,
        8,
        SIZES.max_length,
        heads=SIZES.num_heads,
        dim_head=SIZES.head_dim,
        non_permutative=False,
        use_simple_sort_net=True,
    )
    inner = SIZES.num_heads * SIZES.head_dim
    with torch.no_grad():
        # Its sorted values are made of keys. With values that are keys, both say the same.
        peer.to_kv.weight[inner:] = peer.to_kv.weight[:inner]
        peer.sinkhorn_attention.sort_net.linear.mul_(0.2)
    return peer


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Without noise, and with exp(R) as in the paper where it has R itself, by leaving out its logarithm."""
    with (
        mock.patch(f"{MODULE}.sample_gumbel", lambda shape, device, dtype: torch.zeros(shape, dtype=dtype)),
        mock.patch(f"{MODULE}.log", lambda scores: scores),
    ):
        return peer(x)


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.input_projection.weight, torch.cat([state["to_q.weight"], state["to_kv.weight"]]))
    nn.init.zeros_(mixer.input_projection.bias)
    assign(mixer.output_projection.weight, state["to_out.weight"])
    assign(mixer.output_projection.bias, state["to_out.bias"])
    assign(mixer.sort_output, state["sinkhorn_attention.sort_net.linear"][0])


def speed_peer(length: int) -> nn.Module:
    from sinkhorn_transformer.sinkhorn_transformer import SinkhornSelfAttention

    return SinkhornSelfAttention(128, 64, length, heads=4)


PARITIES = {
    "simple": Parity(
        PACKAGE,
        build,
        run,
        give,
        {"block_size": 8, "sort_layers": 1},
        lengths=(32, 32, 32),
        remark="values are keys, no Gumbel noise, exp(R) for R; full rows, since its mask is another",
    )
}

SPEEDS = [Speed("sinkhorn-transformer 0.11.4", speed_peer, {"block_size": 64})]
"""The peer's default sorts by one block each, without Sinkhorn's normalisation; ours does all of it."""
