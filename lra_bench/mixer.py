"""The contract of what the benchmark compares: a token mixer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import UsageError, require

CONTRACT_ARGUMENTS = frozenset({"head_dim", "max_length", "dropout", "layer_index"})
"""Keyword arguments that every mixer gets from the protocol; all others are the variant's options."""


@dataclass(frozen=True)
class Cost:
    """What one layer costs for one sequence: the closed form on a model's card.

    `flops` is the forward pass of the whole mixer with its projections, a multiply-add as two,
    matrix products, convolutions and transforms only, as `measure.flops.count_flops` counts them (a
    complex multiply-add as eight).
    `activation_bytes` is what the backward pass needs kept, at four bytes an element.
    """

    flops: int
    activation_bytes: int


class TokenMixer(nn.Module, ABC):
    """Mixes tokens along a sequence.

    forward(x, mask): x is (batch, length, dim); mask is (batch, length) bool, True at real tokens,
    or None if all are real; the result is (batch, length, dim). What stands at padding, on input
    as on output, must not reach any real token. Masks come from lengths, never from values.

    A variant's constructor is `__init__(self, dim, num_heads, *, <its options>, **shape)` and passes
    `shape` on. Options are keyword-only, in the paper's terms and with the paper's defaults; a value
    out of range raises OptionError (see `errors.require`).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        max_length: int,
        dropout: float = 0.0,
        layer_index: int = 0,
    ) -> None:
        super().__init__()
        require(dim >= 1, "dim", dim, "at least 1")
        require(num_heads >= 1, "num_heads", num_heads, "at least 1")
        require(head_dim >= 1, "head_dim", head_dim, "at least 1")
        require(max_length >= 1, "max_length", max_length, "at least 1")
        require(0.0 <= dropout < 1.0, "dropout", dropout, "in [0, 1)")
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.max_length = max_length
        self.dropout = dropout
        self.layer_index = layer_index

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor: ...

    def check_length(self, length: int) -> None:
        """For variants whose parameters end at max_length.

        Raises:
            UsageError: the sequence is longer than that.
        """
        if length > self.max_length:
            raise UsageError(
                f"{type(self).__name__} was built for at most {self.max_length} tokens and got {length}: "
                f"build it with max_length={length} or more, or shorten the sequence."
            )

    @property
    def auxiliary_loss(self) -> Tensor | None:
        """A scalar that the trainer adds to the loss after a forward pass, or None."""
        return None

    @property
    def auxiliary_count(self) -> Tensor | None:
        """Over how much of the batch `auxiliary_loss` is a mean, a scalar; None for as many as there are
        sequences. Where several processes share a batch, their losses are weighted by it."""
        return None

    @classmethod
    def build_layers(cls, num_layers: int, dim: int, num_heads: int, **arguments: Any) -> list[Self]:
        """One mixer per layer. Override to share parameters across layers."""
        return [cls(dim, num_heads, layer_index=index, **arguments) for index in range(num_layers)]

    @classmethod
    @abstractmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """Closed form of what one layer costs for one sequence of `length` real tokens.

        `max_length` may be among the options, for variants whose defaults follow it.
        """


class MultiHeadMixer(TokenMixer):
    """A mixer with the usual query, key, value and output projections around `attend`."""

    def __init__(self, dim: int, num_heads: int, **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        inner = num_heads * self.head_dim
        # One product for the three projections: rows are query, key, value, in this order.
        self.input_projection = nn.Linear(dim, 3 * inner)
        self.output_projection = nn.Linear(inner, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = self.project(x)
        mixed: Tensor = self.output_projection(merge_heads(self.attend(query, key, value, mask)))
        return mixed

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, d) -> three of (b, h, n, e), e the width of a head."""
        query, key, value = self.input_projection(x).chunk(3, dim=-1)  # (b, n, h * e) each
        return (
            split_heads(query, self.num_heads),
            split_heads(key, self.num_heads),
            split_heads(value, self.num_heads),
        )

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """query, key, value: (b, h, n, e); mask: (b, n) or None -> (b, h, n, e). Scaling is done here."""

    @classmethod
    def projection_cost(cls, length: int, dim: int, num_heads: int, head_dim: int) -> Cost:
        """Of the four projections: products, and the tensors that backward needs of them."""
        inner = num_heads * head_dim
        flops = 2 * length * dim * inner * 4
        # The layer's input, query, key, value and the merged heads before the last projection.
        return Cost(flops, 4 * length * (dim + 4 * inner))


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(b, n, h * e) -> (b, h, n, e)"""
    return x.reshape(*x.shape[:-1], num_heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(b, h, n, e) -> (b, n, h * e)"""
    return x.transpose(1, 2).flatten(2)


def whole_blocks(x: Tensor, mask: Tensor | None, block_size: int) -> tuple[Tensor, Tensor | None]:
    """(b, n, d), (b, n) or None -> both filled up at the end to a multiple of block_size tokens.

    Before the projections, where a token is narrowest. What is filled up is padding.
    """
    batch, length, _ = x.shape
    extra = -length % block_size
    if not extra:
        return x, mask
    if mask is None:
        mask = torch.ones(batch, length, dtype=torch.bool, device=x.device)
    return F.pad(x, (0, 0, 0, extra)), F.pad(mask, (0, extra))


def key_mask(mask: Tensor) -> Tensor:
    """(b, n) -> (b, 1, 1, n) bool for attention: True at the keys that queries may see.

    A row without any real token sees all its keys: a softmax over nothing is NaN in some kernels,
    and a NaN at padding spreads through the gradients of everything.
    """
    return (mask | ~mask.any(dim=-1, keepdim=True))[:, None, None, :]


def mask_from_lengths(lengths: Tensor, max_length: int) -> Tensor:
    """(b,) -> (b, max_length) bool, True at the first `lengths` tokens of each row."""
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]
