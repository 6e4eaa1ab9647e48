"""FNet (Lee-Thorp et al. 2021) as two sums of complex exponentials, written out as matrices."""

from __future__ import annotations

import numpy as np
from references.attention import Array
from references.proof import Proof
from torch import nn


def dft(size: int) -> np.ndarray:
    """(size, size): exp(-2 pi i k m / size), the product reduced first so that no digit is lost."""
    index = np.arange(size)
    return np.exp(-2j * np.pi * (np.outer(index, index) % size) / size)


def fnet(mixer: nn.Module, x: Array) -> Array:
    length, dim = x.shape
    channels_first = x @ dft(dim)  # along d; the matrix is symmetric
    mixed = (dft(length) @ channels_first).real
    return mixed / np.sqrt(length * dim) if mixer.scaling == "orthonormal" else mixed


PROOF = Proof(fnet, {"orthonormal": {"scaling": "orthonormal"}}, ({"scaling": "half"},))
