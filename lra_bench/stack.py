"""The contract of a variant that changes the layer itself: a whole encoder in place of the blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost
from lra_bench.protocol import Architecture


def feed_forward(dim: int, hidden_dim: int, dropout: float) -> nn.Sequential:
    """The standard feed-forward: (b, n, dim) -> hidden_dim, GELU -> (b, n, dim)."""
    return nn.Sequential(
        nn.Linear(dim, hidden_dim),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, dim),
        nn.Dropout(dropout),
    )


class EncoderStack(nn.Module, ABC):
    """All layers of a model that can't be told by its mixer alone: another order of modules, or state
    that goes from layer to layer.

    forward(x, mask): x is (batch, length, dim), embedded tokens; mask is (batch, length) bool, True at
    real tokens, or None if all are real; the result is the pair of both for the pooling, of the same
    length unless the variant shortens it. What stands at padding must not reach any real token, and
    the result is normalised if the variant's layers leave it unnormalised.

    A variant's constructor is `__init__(self, architecture, *, <its options>, **shape)` and passes
    `shape` on. Depth, width, heads, dropout and the feed-forward's width come from the protocol; what
    the paper sets otherwise is an option.
    """

    def __init__(self, architecture: Architecture, *, max_length: int) -> None:
        super().__init__()
        require(max_length >= 1, "max_length", max_length, "at least 1")
        self.architecture = architecture
        self.max_length = max_length

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]: ...

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
    @abstractmethod
    def cost(cls, length: int, architecture: Architecture, **options: Any) -> Cost:
        """Closed form of what the whole stack costs for one sequence of `length` real tokens."""
