"""Inputs for checks: seeded, and the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lra_bench.mixer import mask_from_lengths
from lra_bench.validation.subject import Subject


def tokens(
    subject: Subject, batch: int, length: int, seed: int = 1, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(batch, length, dim) of standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, subject.sizes.dim, generator=generator, dtype=torch.float64).to(dtype)


def mask_of(lengths: Sequence[int], longest: int | None = None) -> Tensor:
    """(b, longest) bool, True at the first `lengths` tokens of each row."""
    return mask_from_lengths(torch.tensor(lengths), max(lengths) if longest is None else longest)


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest number expected; infinite where something isn't finite."""
    if not got.isfinite().all():
        return float("inf")
    got, expected = got.detach(), expected.detach()
    scale = float(expected.abs().max()) or 1.0
    return float((got - expected).abs().max()) / scale
