"""The packages `nystrom-attention` and `transformers`.

Both start the pseudo-inverse from norms over all heads of the whole batch, so one sequence and one head
are compared after the usual six steps, and more heads and sequences once the iteration has converged.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

from lra_bench.validation.subject import Sizes

ONE_HEAD = replace(SIZES, num_heads=1)
SCALE = "One sequence and one head: its first guess depends on all that it is given."
CONVERGED = "Enough steps that the first guess, which in it depends on the batch, no longer matters."


def build(sizes: Sizes, landmarks: int, iterations: int) -> nn.Module:
    from nystrom_attention import NystromAttention

    return NystromAttention(
        dim=sizes.dim,
        dim_head=sizes.head_dim,
        heads=sizes.num_heads,
        num_landmarks=landmarks,
        pinv_iterations=iterations,
        residual_conv_kernel=7,
    )


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    return peer(x, mask=mask)


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.input_projection.weight, state["to_qkv.weight"])
    nn.init.zeros_(mixer.input_projection.bias)
    assign(mixer.output_projection.weight, state["to_out.0.weight"])
    assign(mixer.output_projection.bias, state["to_out.0.bias"])
    assign(mixer.kernel, state["res_conv.weight"][:, 0, :, 0])


def build_transformers(length: int) -> nn.Module:
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    config = NystromformerConfig(
        hidden_size=ONE_HEAD.dim,
        num_attention_heads=1,
        segment_means_seq_len=length,
        num_landmarks=8,
        conv_kernel_size=7,
        attention_probs_dropout_prob=0.0,
    )
    return NystromformerSelfAttention(config)


def give_transformers(mixer: nn.Module, state: Weights) -> None:
    for part in ("weight", "bias"):
        three = [state[f"{name}.{part}"] for name in ("query", "key", "value")]
        assign(getattr(mixer.input_projection, part), torch.cat(three))
    nn.init.eye_(mixer.output_projection.weight)
    nn.init.zeros_(mixer.output_projection.bias)
    assign(mixer.kernel, state["conv.weight"][:, 0, :, 0])


def speed_peer(length: int) -> nn.Module:
    from nystrom_attention import NystromAttention

    return NystromAttention(dim=128, dim_head=32, heads=4, num_landmarks=64)


EIGHT = {"num_landmarks": 8, "conv_kernel_size": 7}

PARITIES = {
    "package": Parity(
        "nystrom-attention==0.0.14",
        lambda: build(ONE_HEAD, 8, 6),
        run,
        give,
        EIGHT,
        lengths=(32,),
        sizes=ONE_HEAD,
        remark=SCALE,
    ),
    "converged": Parity(
        "nystrom-attention==0.0.14",
        lambda: build(SIZES, 8, 40),
        run,
        give,
        {**EIGHT, "pinv_iterations": 40},
        lengths=(32, 32, 32),
        tolerance=1e-6,
        remark=CONVERGED,
    ),
    "transformers": Parity(
        "transformers==5.23.0",
        lambda: build_transformers(32),
        lambda peer, x, mask: peer(x)[0],
        give_transformers,
        EIGHT,
        lengths=(32,),
        sizes=replace(ONE_HEAD, head_dim=ONE_HEAD.dim),
        remark=SCALE,
    ),
}

SPEEDS = [Speed("nystrom-attention 0.0.14", speed_peer, {"num_landmarks": 64, "conv_kernel_size": 33})]
