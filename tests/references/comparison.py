"""The comparison of a mixer with its oracle: one for the suite and for the planted faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from references.attention import Array
from torch import nn

from lra_bench.mixer import TokenMixer, mask_from_lengths


def assert_matches_reference(
    mixer: TokenMixer,
    reference: Callable[[nn.Module, Array], Array],
    lengths: Sequence[int],
    seed: int = 0,
) -> None:
    """In float64, each row of a batch of these lengths against the oracle on that row alone.

    Rows shorter than the longest are padded, with numbers that would show if they leaked.
    """
    mixer = mixer.double().eval()
    longest = max(lengths)
    generator = torch.Generator().manual_seed(seed)
    # Wide inputs, so that attention is far from uniform and a wrong scale is far from right.
    x = 3 * torch.randn(len(lengths), longest, mixer.dim, generator=generator, dtype=torch.float64)
    mask = mask_from_lengths(torch.tensor(lengths), longest)
    # Large, alike and small by turns: a maximum over what should be masked shows with one of them.
    factor = torch.tensor([7.0, 1.0, 1 / 7], dtype=torch.float64).repeat(longest)[:longest, None]
    x = torch.where(mask[..., None], x, factor * x)
    with torch.no_grad():
        got = mixer(x, None if min(lengths) == longest else mask)
    for row, length in enumerate(lengths):
        expected = reference(mixer, x[row, :length].numpy())
        np.testing.assert_allclose(got[row, :length].numpy(), expected, rtol=1e-9, atol=1e-10)
