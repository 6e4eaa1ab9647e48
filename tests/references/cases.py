"""Every catalog entry that mixes tokens, with the options under which it is proved.

`tests/references/<entry>.py` holds its oracle and `PROOF`; the suite fails for an entry without one.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from references.proof import Proof
from torch import Tensor, nn

from lra_bench.mixer import Cost
from lra_bench.registry import models
from lra_bench.validation.subject import Sizes, Subject

KINDS = ("mixer", "encoder")


def proof_of(name: str) -> Proof | None:
    """`PROOF` of an entry's oracle, or None where there is no such file."""
    module = f"references.{name}"
    if importlib.util.find_spec(module) is None:
        return None
    proof: Proof = importlib.import_module(module).PROOF
    return proof


PROOFS = {
    entry.name: proof
    for entry in models
    if entry.kind in KINDS and (proof := proof_of(entry.name)) is not None
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
                f"{self.name}.py with the reference computation and a PROOF."
            )
        return PROOFS[self.name]

    @property
    def sizes(self) -> Sizes:
        return self.proof.sizes

    @property
    def subject(self) -> Subject:
        return Subject(models.get(self.name), self.options, self.sizes)

    def build(self, seed: int = 0, **overrides: Any) -> nn.Module:
        """The mixer, or the whole encoder seen as one, at the sizes of the proof and in eval mode."""
        return self.subject.build(seed, **overrides)

    def cost(self, length: int) -> Cost:
        return self.subject.cost(length)

    def tokens(self, batch: int, length: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """(batch, length, dim) of standard normal numbers."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, length, self.sizes.dim, generator=generator, dtype=torch.float64).to(dtype)


def all_cases() -> list[Case]:
    """Default options and every named variant of every entry that mixes tokens."""
    cases = []
    for entry in models:
        if entry.kind not in KINDS:
            continue
        cases.append(Case(entry.name, "default", entry.options))
        for label, options in (PROOFS[entry.name].variants if entry.name in PROOFS else {}).items():
            cases.append(Case(entry.name, label, {**entry.options, **options}))
    return cases
