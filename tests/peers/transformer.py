"""torch's own multi-head attention."""

from __future__ import annotations

from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn


class TorchAttention(nn.Module):
    """nn.MultiheadAttention; `explicit` asks for the weights and so for the n x n matrix."""

    def __init__(self, dim: int, num_heads: int, explicit: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.explicit = explicit

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attention(
            x,
            x,
            x,
            key_padding_mask=None if mask is None else ~mask,
            need_weights=self.explicit,
            average_attn_weights=False,
        )[0]


def give(mixer: nn.Module, state: Weights) -> None:
    assign(mixer.input_projection.weight, state["attention.in_proj_weight"])
    assign(mixer.input_projection.bias, state["attention.in_proj_bias"])
    assign(mixer.output_projection.weight, state["attention.out_proj.weight"])
    assign(mixer.output_projection.bias, state["attention.out_proj.bias"])


PARITIES = {
    "torch": Parity(
        "torch==2.13.0",
        lambda: TorchAttention(SIZES.dim, SIZES.num_heads, explicit=True),
        lambda peer, x, mask: peer(x, mask),
        give,
    )
}

SPEEDS = [Speed("nn.MultiheadAttention", lambda n: TorchAttention(128, 4, explicit=False))]
