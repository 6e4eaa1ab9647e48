"""The package `performer-pytorch`."""

from __future__ import annotations

import functools

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn


def build() -> nn.Module:
    from performer_pytorch import SelfAttention

    return SelfAttention(SIZES.dim, heads=SIZES.num_heads, dim_head=SIZES.head_dim, nb_features=40)


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    from performer_pytorch import performer_pytorch

    shipped = performer_pytorch.softmax_kernel
    performer_pytorch.softmax_kernel = functools.partial(shipped, eps=0.0)
    try:
        return peer(x)
    finally:
        performer_pytorch.softmax_kernel = shipped


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.projection, state["fast_attention.projection_matrix"])
    assign(mixer.input_projection.weight, torch.cat([state[f"to_{part}.weight"] for part in "qkv"]))
    nn.init.zeros_(mixer.input_projection.bias)
    assign(mixer.output_projection.weight, state["to_out.weight"])
    assign(mixer.output_projection.bias, state["to_out.bias"])


def speed_peer(length: int) -> nn.Module:
    from performer_pytorch import SelfAttention

    return SelfAttention(128, heads=4, dim_head=32, nb_features=256)


PARITIES = {
    "features": Parity(
        "performer-pytorch==1.1.4",
        build,
        run,
        give,
        {"num_features": 40, "eps": 1e-60},
        lengths=(32, 32, 32),
        remark="It adds eps after subtracting another constant than we do; without eps, constants cancel.",
    )
}

SPEEDS = [Speed("performer-pytorch 1.1.4", speed_peer, {"num_features": 256})]
