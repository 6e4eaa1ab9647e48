"""The package `linformer`: E and F shared by heads, no mask."""

from __future__ import annotations

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import nn


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.input_projection.weight, torch.cat([state[f"to_{part}.weight"] for part in "qkv"]))
    nn.init.zeros_(mixer.input_projection.bias)
    assign(mixer.E, state["proj_k"].T)
    assign(mixer.F, state["proj_v"].T)
    assign(mixer.output_projection.weight, state["to_out.weight"])
    assign(mixer.output_projection.bias, state["to_out.bias"])


def build(dim: int, length: int, rank: int, num_heads: int, head_dim: int) -> nn.Module:
    from linformer import LinformerSelfAttention

    return LinformerSelfAttention(dim, length, k=rank, heads=num_heads, dim_head=head_dim)


PARITIES = {
    "headwise": Parity(
        "linformer==0.2.3",
        lambda: build(SIZES.dim, SIZES.max_length, 6, SIZES.num_heads, SIZES.head_dim),
        lambda peer, x, mask: peer(x),
        give,
        {"rank": 6, "sharing": "headwise"},
        lengths=(32, 32, 32),
    )
}

SPEEDS = [Speed("linformer 0.2.3", lambda n: build(128, n, 256, 4, 32), {"rank": 256, "sharing": "headwise"})]
