"""The package `local-attention`, rotary positions off."""

from __future__ import annotations

from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn


def build(look_around: int) -> nn.Module:
    from local_attention import LocalMHA

    return LocalMHA(
        dim=SIZES.dim,
        window_size=8,
        dim_head=SIZES.head_dim,
        heads=SIZES.num_heads,
        causal=False,
        look_backward=look_around,
        look_forward=look_around,
        use_rotary_pos_emb=False,
        exact_windowsize=False,
    )


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    return peer(x, mask=mask)


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.input_projection.weight, state["to_qkv.weight"])
    assign(mixer.output_projection.weight, state["to_out.weight"])
    nn.init.zeros_(mixer.input_projection.bias)
    nn.init.zeros_(mixer.output_projection.bias)


def speed_peer(look_around: int, block_size: int, length: int) -> nn.Module:
    from local_attention import LocalMHA

    return LocalMHA(
        dim=128,
        window_size=block_size,
        dim_head=32,
        heads=4,
        causal=False,
        look_backward=look_around,
        look_forward=look_around,
        use_rotary_pos_emb=False,
        exact_windowsize=False,
    )


PARITIES = {
    f"look-{look}": Parity(
        "local-attention==1.11.2",
        lambda look=look: build(look),
        run,
        give,
        {"block_size": 8, "look_around": look},
    )
    for look in (0, 1)
}

SPEEDS = [
    Speed("local-attention 1.11.2", lambda n: speed_peer(0, 64, n), {"block_size": 64}),
    Speed("local-attention 1.11.2", lambda n: speed_peer(1, 128, n), {"block_size": 128, "look_around": 1}),
]
