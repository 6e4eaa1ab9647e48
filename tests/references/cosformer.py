"""cosFormer (Qin et al. 2022): each pair's weight from its distance, before the cosine is split."""

from __future__ import annotations

import math

import numpy as np
from references.attention import Array, heads, output
from references.proof import Proof
from torch import nn


def cosformer(mixer: nn.Module, x: Array) -> Array:
    length = len(x)
    decay = np.ones((length, length))
    if mixer.reweight:
        for i in range(length):
            for j in range(length):
                decay[i, j] = math.cos(math.pi / 2 * (i - j) / mixer.scale_length)
    mixed = []
    for query, key, value in heads(mixer, x):
        weights = np.maximum(query, 0) @ np.maximum(key, 0).T * decay  # (n, n)
        mixed.append(weights @ value / np.maximum(weights.sum(axis=1, keepdims=True), mixer.eps))
    return output(mixer, mixed)


PROOF = Proof(
    cosformer,
    {
        "no-reweighting": {"reweight": False},
        "longer-scale": {"scale_length": 100},
        "eps": {"eps": 5.0},
    },
    ({"scale_length": 3}, {"eps": 0.0}),
)
