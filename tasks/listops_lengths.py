"""How long the generator's trees are, exactly: what can be drawn, and how rarely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lra_bench.tasks.listops_kernel import VALUE_PROBABILITY


def length_probabilities(max_length: int, max_depth: int, max_args: int) -> NDArray[np.float64]:
    """Probability that a drawn tree has n tokens, for n < max_length: (max_length,), up to about 1e-15.

    The length of an operator with k arguments is 2 more than the sum of theirs, which are independent
    trees of the next depth; so its distribution is their k-fold convolution, moved by 2.
    """
    padded = 2 * max_length  # so that products of spectra do not wrap round
    digit = np.zeros(max_length)
    digit[1] = 1.0
    tree = digit  # at the depth limit
    for _ in range(max_depth - 1):
        operator = np.zeros(max_length)
        tree_spectrum = np.fft.rfft(tree, padded)
        arguments = tree
        for _ in range(2, max_args + 1):
            arguments = np.fft.irfft(np.fft.rfft(arguments, padded) * tree_spectrum, padded)[:max_length]
            operator[2:] += arguments[:-2]
        tree = VALUE_PROBABILITY * digit + (1 - VALUE_PROBABILITY) * operator / (max_args - 1)
    return tree


def acceptance(min_length: int, max_length: int, max_depth: int, max_args: int) -> float:
    """Probability that a drawn tree has more than `min_length` and fewer than `max_length` tokens."""
    return float(length_probabilities(max_length, max_depth, max_args)[min_length + 1 :].sum())
