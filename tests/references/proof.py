"""What a catalog entry's oracle says: `PROOF` in tests/references/<entry>.py is one of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from references.attention import Array
from torch import nn

from lra_bench.validation.subject import Sizes

SIZES = Sizes(dim=10, num_heads=3, head_dim=4, max_length=48, ffn_dim=14)
"""The heads together are wider than the model, so that mixing up the two widths shows."""


@dataclass(frozen=True)
class Proof:
    """How an entry is proved, beyond its default options."""

    reference: Callable[[nn.Module, Array], Array]
    """(mixer or encoder, one unpadded sequence (n, d)) -> (n, d), in float64, from weights and options."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Named options for which everything must hold too."""
    invalid: tuple[Mapping[str, Any], ...] = ()
    """Options that must raise OptionError."""
    smooth: Mapping[str, Any] = field(default_factory=dict)
    """Options under which training passes are deterministic and smooth, for gradients by differences."""
    sizes: Sizes = SIZES
    tolerance: float = 1e-9
    """Largest relative error in float64 (with an absolute one a tenth of it)."""
