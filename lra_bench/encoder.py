"""The network around a mixer: embedding -> blocks -> pooling -> head, and the dual encoder.

What changes between cells is the mixer alone. The block is pre-norm (Xiong et al. 2020,
arXiv 2002.04745): x + mixer(LN(x)), then x + FFN(LN(x)), and a last LN before pooling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lra_bench.data.task import TaskSpec
from lra_bench.errors import require
from lra_bench.mixer import TokenMixer
from lra_bench.pairs import pair_features
from lra_bench.protocol import Architecture
from lra_bench.stack import feed_forward

POSITION_STD = 0.02
"""Of learned positions: as in the 2020 release and in Nystromformer's code."""


class Embedding(nn.Module):
    """Token plus position embedding, dropout; optionally a leading CLS vector.

    (b, n) int64 -> (b, n, dim), or (b, n + 1, dim) with the CLS vector first.
    """

    def __init__(self, spec: TaskSpec, architecture: Architecture) -> None:
        super().__init__()
        dim = architecture.dim
        self.tokens = nn.Embedding(spec.vocab_size, dim)
        nn.init.normal_(self.tokens.weight, std=architecture.embedding_std)
        self.cls = nn.Parameter(torch.zeros(dim)) if architecture.pooling == "cls" else None
        length = spec.max_length + (self.cls is not None)
        if architecture.positions == "learned":
            self.positions = nn.Parameter(torch.empty(length, dim).normal_(std=POSITION_STD))
        else:
            self.register_buffer("positions", sinusoidal_positions(length, dim), persistent=False)
        self.dropout = nn.Dropout(architecture.dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        x: Tensor = self.tokens(input_ids)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], 1, -1), x], dim=1)
        dropped: Tensor = self.dropout(x + self.positions[: x.shape[1]])
        return dropped


class Block(nn.Module):
    """The standard pre-norm block around a mixer. (b, n, d), (b, n) or None -> (b, n, d)"""

    def __init__(self, mixer: nn.Module, architecture: Architecture) -> None:
        super().__init__()
        dim, dropout = architecture.dim, architecture.dropout
        self.mixer_norm = nn.LayerNorm(dim)
        self.mixer = mixer
        self.mixer_dropout = nn.Dropout(dropout)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = feed_forward(dim, architecture.ffn_dim, dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.mixer_dropout(self.mixer(self.mixer_norm(x), mask))
        output: Tensor = x + self.ffn(self.ffn_norm(x))
        return output


class MixerEncoder(nn.Module):
    """Blocks of one kind of mixer. (x, mask) -> (x, mask)"""

    def __init__(self, mixers: list[TokenMixer], architecture: Architecture) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(mixer, architecture) for mixer in mixers)
        self.norm = nn.LayerNorm(architecture.dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask


class SequenceEncoder(nn.Module):
    """Tokens to one vector, or to one per token.

    (b, n) int64, (b, n) bool or None -> (b, dim); with pooling "none", (b, n, dim).
    """

    def __init__(self, embedding: Embedding, encoder: nn.Module, pooling: str) -> None:
        super().__init__()
        self.embedding = embedding
        self.encoder = encoder
        self.pooling = pooling

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        x: Tensor = self.embedding(input_ids)
        if mask is not None and x.shape[1] > mask.shape[1]:  # a leading CLS vector
            mask = torch.cat([mask.new_ones(mask.shape[0], 1), mask], dim=1)
        x, mask = self.encoder(x, mask)
        if self.pooling == "none":
            return x[:, -input_ids.shape[1] :]
        return x[:, 0] if self.pooling == "cls" else masked_mean(x, mask)


class SequenceClassifier(nn.Module):
    """One sequence to class logits. (b, n), mask -> (b, classes), or (b, n, classes) without pooling."""

    def __init__(
        self, sequence_encoder: SequenceEncoder, architecture: Architecture, num_classes: int
    ) -> None:
        super().__init__()
        self.sequence_encoder = sequence_encoder
        self.head = nn.Sequential(
            nn.Linear(architecture.dim, architecture.ffn_dim),
            nn.ReLU(),
            nn.Linear(architecture.ffn_dim, num_classes),
        )

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        logits: Tensor = self.head(self.sequence_encoder(input_ids, mask))
        return logits


class PairClassifier(nn.Module):
    """Two sequences through one shared encoder, and a head over what `pair_features` makes of them."""

    def __init__(
        self, sequence_encoder: SequenceEncoder, architecture: Architecture, num_classes: int
    ) -> None:
        super().__init__()
        self.sequence_encoder = sequence_encoder
        self.pair_head = architecture.pair_head
        width = 4 if self.pair_head == "interaction" else 2
        self.head = nn.Sequential(
            nn.Linear(width * architecture.dim, architecture.ffn_dim),
            nn.ReLU(),
            nn.Linear(architecture.ffn_dim, num_classes),
        )

    def forward(
        self, input_ids: Tensor, mask: Tensor | None, input_ids_2: Tensor, mask_2: Tensor | None
    ) -> Tensor:
        first = self.sequence_encoder(input_ids, mask)
        second = self.sequence_encoder(input_ids_2, mask_2)
        logits: Tensor = self.head(pair_features(first, second, self.pair_head))
        return logits


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over real tokens only. (b, n, d), (b, n) or None -> (b, d)"""
    if mask is None:
        return x.mean(dim=1)
    weights = mask.to(x.dtype)[..., None]  # (b, n, 1)
    # `where` and not a product: what stands at padding may be infinite.
    return torch.where(mask[..., None], x, 0).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def sinusoidal_positions(length: int, dim: int) -> Tensor:
    """(length, dim), sines and cosines interleaved; Vaswani et al. 2017 (arXiv 1706.03762), section 3.5."""
    require(dim % 2 == 0, "architecture.dim", dim, "an even width for sinusoidal positions")
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    return torch.stack([torch.sin(position * frequency), torch.cos(position * frequency)], dim=-1).flatten(1)


def auxiliary_losses(model: nn.Module) -> list[Tensor]:
    """What modules add to the loss after a forward pass (compression, commitment and their like)."""
    return [loss for loss, _ in auxiliary_losses_and_counts(model)]


def auxiliary_losses_and_counts(model: nn.Module) -> list[tuple[Tensor, Tensor | None]]:
    """The same, each with what it is a mean over; see `TokenMixer.auxiliary_count`."""
    found = ((getattr(module, "auxiliary_loss", None), module) for module in model.modules())
    return [(loss, getattr(module, "auxiliary_count", None)) for loss, module in found if loss is not None]
