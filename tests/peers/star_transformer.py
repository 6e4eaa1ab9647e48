"""The package `fastnlp`: its ring and star attentions, in the order of the paper, and its whole encoder."""

from __future__ import annotations

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

PACKAGE = "fastnlp==1.0.1"
LAYERS = 1  # what a parity is built with


class PaperOrder(nn.Module):
    """The package's two attentions as Guo et al. put them together.

    The package closes no ring and normalises elsewhere. Here the sequence gets its last token in front
    and its first at the end, so that the package's open ring is closed for the tokens between; ReLU and
    LayerNorm follow each attention.
    """

    def __init__(self) -> None:
        from fastNLP.modules.torch.encoder.star_transformer import _MSA1, _MSA2

        super().__init__()
        sizes = {"nhead": SIZES.num_heads, "head_dim": SIZES.head_dim, "dropout": 0.0}
        self.ring = nn.ModuleList(_MSA1(SIZES.dim, **sizes) for _ in range(LAYERS))
        self.star = nn.ModuleList(_MSA2(SIZES.dim, **sizes) for _ in range(LAYERS))
        self.ring_norm = nn.ModuleList(nn.LayerNorm(SIZES.dim) for _ in range(LAYERS))
        self.star_norm = nn.ModuleList(nn.LayerNorm(SIZES.dim) for _ in range(LAYERS))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, length, dim = x.shape
        relay = x.mean(1)
        nodes = x

        def closed(tokens: Tensor) -> Tensor:  # (b, d, n + 2)
            return torch.cat([tokens[:, -1:], tokens, tokens[:, :1]], 1).transpose(1, 2)

        for ring, star, ring_norm, star_norm in zip(
            self.ring, self.star, self.ring_norm, self.star_norm, strict=True
        ):
            others = torch.stack([closed(x), relay[:, :, None].expand(-1, -1, length + 2)], 2)
            nodes = ring(closed(nodes)[..., None], ax=others)[:, :, 1:-1, 0].transpose(1, 2)
            nodes = ring_norm(nodes.relu())
            rows = torch.cat([relay[:, None], nodes], 1).transpose(1, 2)[..., None]
            relay = star_norm(star(relay[:, :, None, None], rows).view(batch, dim).relu())
        return (nodes + relay[:, None]) / 2


def give(encoder: nn.Module, state: Weights) -> None:
    for ours, theirs in ((encoder.satellites, "ring"), (encoder.relays, "star")):
        for layer, attention in enumerate(ours):
            for kind in ("weight", "bias"):
                # The package's matrices are convolutions of width one.
                query, key, value, output = (
                    state[f"{theirs}.{layer}.W{part}.{kind}"].squeeze(-1).squeeze(-1) for part in "QKVO"
                )
                assign(getattr(attention.input_projection, kind), torch.cat([query, key, value]))
                assign(getattr(attention.output_projection, kind), output)
                assign(getattr(attention.norm, kind), state[f"{theirs}_norm.{layer}.{kind}"])


PARITIES = {
    "attentions": Parity(
        PACKAGE,
        PaperOrder,
        lambda peer, x, mask: peer(x),
        give,
        lengths=(32, 32),
        remark="the package's attentions in the paper's order, over a ring closed by hand",
    )
}


class WithRelay(nn.Module):
    """The package's encoder, its relay added to the tokens as its classifier adds it to their maximum."""

    def __init__(self, num_layers: int) -> None:
        from fastNLP.modules.torch.encoder.star_transformer import StarTransformer

        super().__init__()
        self.encoder = StarTransformer(128, num_layers, 4, 32, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        nodes, relay = self.encoder(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
        return (nodes + relay[:, None]) / 2


SPEEDS = [Speed("fastnlp 1.0.1", lambda n: WithRelay(1))]
