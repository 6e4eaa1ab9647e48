"""The comparison of a model with its oracle: one for the suite and for the planted faults."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from references.proof import Proof
from torch import Tensor, nn

from lra_bench.mixer import mask_from_lengths
from lra_bench.validation.subject import core


def telling_input(lengths: Sequence[int], dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x (b, n, d) in float64 and its mask (b, n): padded with numbers that would show if they leaked."""
    longest = max(lengths)
    generator = torch.Generator().manual_seed(seed)
    # Wide inputs, so that attention is far from uniform and a wrong scale is far from right.
    x = 3 * torch.randn(len(lengths), longest, dim, generator=generator, dtype=torch.float64)
    mask = mask_from_lengths(torch.tensor(lengths), longest)
    # Large, alike and small by turns: a maximum over what should be masked shows with one of them.
    factor = torch.tensor([7.0, 1.0, 1 / 7], dtype=torch.float64).repeat(longest)[:longest, None]
    return torch.where(mask[..., None], x, factor * x), mask


def assert_matches_reference(module: nn.Module, proof: Proof, lengths: Sequence[int], seed: int = 0) -> float:
    """In float64, each row of a batch of these lengths against the oracle on that row alone.

    Returns:
        The largest error relative to the largest number of its row.
    """
    module = module.double().eval()
    x, mask = telling_input(lengths, proof.sizes.dim, seed)
    with torch.no_grad():
        got = module(x, None if min(lengths) == max(lengths) else mask)
    worst = 0.0
    for row, length in enumerate(lengths):
        expected = proof.reference(core(module), x[row, :length].numpy())
        actual = got[row, :length].numpy()
        np.testing.assert_allclose(actual, expected, rtol=proof.tolerance, atol=proof.tolerance / 10)
        worst = max(worst, float(np.abs(actual - expected).max() / np.abs(expected).max()))
    return worst
