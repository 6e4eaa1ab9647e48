"""Efficient attention (Shen et al. 2018) as the n x n weights that it stands for, one query at a time."""

from __future__ import annotations

import numpy as np
from references.attention import Array, heads, output, softmax
from references.proof import Proof
from torch import nn


def efficient_attention(mixer: nn.Module, x: Array) -> Array:
    mixed = []
    for query, key, value in heads(mixer, x):
        maps = np.stack([softmax(column) for column in key.T])  # (e, n): one attention map a feature
        rows = []
        for row in query:
            share = softmax(row)
            weights = sum(share[feature] * maps[feature] for feature in range(len(maps)))
            rows.append(sum(weights[j] * value[j] for j in range(len(x))))
        mixed.append(np.stack(rows))
    return output(mixer, mixed)


PROOF = Proof(efficient_attention)
