"""The package `linear-attention-transformer`: its output has a factor 1 / sqrt(e) that the paper has not."""

from __future__ import annotations

import math

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn


def build(dim: int, num_heads: int, head_dim: int) -> nn.Module:
    from linear_attention_transformer.linear_attention_transformer import SelfAttention

    return SelfAttention(dim, num_heads, dim_head=head_dim)


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    return peer(x, input_mask=mask)


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.input_projection.weight, torch.cat([state[f"to_{part}.weight"] for part in "qkv"]))
    nn.init.zeros_(mixer.input_projection.bias)
    assign(mixer.output_projection.weight, state["to_out.weight"] / math.sqrt(mixer.head_dim))
    assign(mixer.output_projection.bias, state["to_out.bias"])


PARITIES = {
    "package": Parity(
        "linear-attention-transformer==0.19.1",
        lambda: build(SIZES.dim, SIZES.num_heads, SIZES.head_dim),
        run,
        give,
        remark="Its factor 1 / sqrt(e) is put into our output projection.",
    )
}

SPEEDS = [Speed("linear-attention-transformer 0.19.1", lambda n: build(128, 4, 32))]
