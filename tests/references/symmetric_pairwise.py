"""Symmetric attention with pairwise factors (Courtois et al. 2024), a pair of tokens at a time."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, output, softmax
from references.proof import Proof
from references.symmetric import affinities, queries_and_values
from torch import nn


def symmetric_pairwise(mixer: nn.Module, x: Array) -> Array:
    factors = array(mixer.pairwise_factors)
    mixed = []
    for head, (query, value) in enumerate(queries_and_values(mixer, x)):
        scores = affinities(query, factors[head])
        mixed.append(np.stack([softmax(row) @ value for row in scores]))
    return output(mixer, mixed)


PROOF = Proof(
    symmetric_pairwise,
    {"normal": {"factors": "normal"}, "scaled": {"factors": "scaled_normal"}},
    ({"factors": "zeros"},),
)
