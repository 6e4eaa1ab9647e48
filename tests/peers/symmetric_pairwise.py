"""The authors' pairwise attention, and the same composed of torch's modules."""

from __future__ import annotations

from peers import symmetric
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import nn

NAME = "BertSelfAttention_Pairwise"


def give(mixer: nn.Module, state: Weights) -> None:
    symmetric.give(mixer, state)
    assign(mixer.pairwise_factors, state["attention.pairwise_factors"])


PARITIES = {
    "authors": Parity(
        symmetric.SOURCE,
        lambda: symmetric.Authors(NAME, SIZES.dim, SIZES.num_heads),
        lambda peer, x, mask: peer(x, mask),
        give,
        remark="the authors' class, and a linear layer for the output projection",
    )
}

SPEEDS = [
    Speed("the authors' code", lambda n: symmetric.Authors(NAME, 128, 4)),
    Speed("composed, with torch's fused attention", lambda n: symmetric.Composed(pairwise=True)),
]
