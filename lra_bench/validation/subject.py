"""What is proved: a variant with its options at given sizes, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lra_bench.errors import UsageError
from lra_bench.mixer import Cost
from lra_bench.protocol import Architecture
from lra_bench.registry import Entry


@dataclass(frozen=True)
class Sizes:
    """Of the network around a variant. The defaults are small, and unequal where mixing two up would show."""

    dim: int = 12
    num_heads: int = 3
    head_dim: int = 5
    max_length: int = 64
    ffn_dim: int = 20
    num_layers: int = 2

    def architecture(self) -> Architecture:
        """The protocol's section that a whole encoder is built from, without dropout."""
        return Architecture(
            num_layers=self.num_layers,
            dim=self.dim,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            ffn_dim=self.ffn_dim,
            dropout=0.0,
            attention_dropout=0.0,
            positions="learned",
            pooling="mean",
        )


class Mixing(nn.Module):
    """An encoder stack seen as a mixer: (b, n, d), (b, n) or None -> (b, n, d)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mixed: Tensor = self.encoder(x, mask)[0]
        return mixed


@dataclass(frozen=True)
class Subject:
    """A mixer or a whole encoder, ready to be built."""

    entry: Entry
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        if self.entry.kind not in ("mixer", "encoder"):
            raise UsageError(
                f"{self.entry.name} is of kind {self.entry.kind}: only a mixer or an encoder can be proved."
            )

    def build(self, seed: int = 0, *, num_layers: int = 1, **overrides: Any) -> nn.Module:
        """forward(x, mask): (b, n, d), (b, n) bool or None -> (b, n, d); in eval mode.

        num_layers: of a whole encoder; one keeps it comparable with a mixer.
        """
        torch.manual_seed(seed)
        target = self.entry.load()
        options = {"max_length": self.sizes.max_length, **self.options, **overrides}
        if self.entry.kind == "encoder":
            return Mixing(target(self._architecture(num_layers), **options)).eval()
        mixer: nn.Module = target(
            self.sizes.dim, self.sizes.num_heads, **{"head_dim": self.sizes.head_dim, **options}
        )
        return mixer.eval()

    def build_layers(self, num_layers: int) -> list[nn.Module]:
        """Mixers for that many layers, which may share parameters."""
        layers: list[nn.Module] = self.entry.load().build_layers(
            num_layers,
            self.sizes.dim,
            self.sizes.num_heads,
            head_dim=self.sizes.head_dim,
            max_length=self.sizes.max_length,
            dropout=0.0,
            **self.options,
        )
        return layers

    def cost(self, length: int, *, num_layers: int = 1) -> Cost:
        """The card's closed form."""
        target = self.entry.load()
        if self.entry.kind == "encoder":
            cost: Cost = target.cost(length, self._architecture(num_layers), **self.options)
        else:
            sizes = self.sizes
            shape = {"head_dim": sizes.head_dim, "max_length": sizes.max_length}
            cost = target.cost(length, sizes.dim, sizes.num_heads, **shape, **self.options)
        return cost

    def _architecture(self, num_layers: int) -> Architecture:
        return self.sizes.architecture().model_copy(update={"num_layers": num_layers})


def core(module: nn.Module) -> nn.Module:
    """What a subject has built: the mixer, or the encoder within its wrapper."""
    return module.encoder if isinstance(module, Mixing) else module
