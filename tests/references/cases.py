"""Which oracle proves which catalog entry, under which options.

Every entry of kind `mixer` needs a line here; the suite fails for one without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from references.attention import Array, transformer
from references.linear_transformer import linear_transformer
from references.linformer import linformer
from references.local import local
from references.performer import performer
from torch import nn

from lra_bench.mixer import TokenMixer
from lra_bench.registry import models

# The heads together are wider than the model, so that mixing up the two widths shows.
DIM, NUM_HEADS, HEAD_DIM, MAX_LENGTH = 10, 3, 4, 48


@dataclass(frozen=True)
class Proof:
    """How an entry is proved, beyond its default options."""

    reference: Callable[[nn.Module, Array], Array]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Named options for which everything must hold too."""
    invalid: tuple[Mapping[str, Any], ...] = ()
    """Options that must raise OptionError."""


PROOFS = {
    "transformer": Proof(transformer),
    "transformer_explicit": Proof(transformer),
    "local": Proof(
        local,
        {
            "block-5": {"block_size": 5},
            "block-2": {"block_size": 2},
            "neighbours": {"block_size": 4, "look_around": 1},
            "two-neighbours": {"block_size": 3, "look_around": 2},
        },
        ({"block_size": 0}, {"look_around": -1}),
    ),
    "linformer": Proof(
        linformer,
        {
            sharing: {"rank": 6, "sharing": sharing}
            for sharing in ("none", "headwise", "key_value", "layerwise")
        },
        ({"rank": 0}, {"sharing": "all"}),
    ),
    "linear_transformer": Proof(linear_transformer, {"eps": {"eps": 0.1}}, ({"eps": 0.0},)),
    "performer": Proof(
        performer,
        {
            "few-features": {"num_features": 7},
            "independent": {"num_features": 9, "orthogonal": False},
            "eps": {"eps": 1e-3},
        },
        ({"num_features": 0}, {"redraw_interval": -1}, {"eps": 0.0}),
    ),
}


@dataclass(frozen=True)
class Case:
    """An entry with options, ready to build."""

    name: str
    label: str
    options: Mapping[str, Any]

    @property
    def proof(self) -> Proof:
        if self.name not in PROOFS:
            pytest.fail(
                f"{self.name} is in models/catalog.yaml but has no oracle: write tests/references/"
                f"{self.name}.py and add a Proof under {self.name!r} in tests/references/cases.py."
            )
        return PROOFS[self.name]

    def build(self, seed: int = 0, **overrides: Any) -> TokenMixer:
        """The mixer at the sizes of the suite, in eval mode."""
        torch.manual_seed(seed)
        arguments = {"head_dim": HEAD_DIM, "max_length": MAX_LENGTH, **self.options, **overrides}
        mixer: TokenMixer = models.get(self.name).load()(DIM, NUM_HEADS, **arguments)
        return mixer.eval()


def all_cases() -> list[Case]:
    """Default options and every named variant of every entry of kind `mixer`."""
    cases = []
    for entry in models:
        if entry.kind != "mixer":
            continue
        cases.append(Case(entry.name, "default", entry.options))
        for label, options in (PROOFS[entry.name].variants if entry.name in PROOFS else {}).items():
            cases.append(Case(entry.name, label, {**entry.options, **options}))
    return cases
