"""Symmetric attention (Courtois et al. 2024): every score from the pair of its tokens, one by one."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, output, softmax
from references.proof import Proof
from torch import nn


def queries_and_values(mixer: nn.Module, x: Array) -> list[tuple[Array, Array]]:
    """(query, value), each (n, e), of every head."""
    weight, bias = array(mixer.input_projection.weight), array(mixer.input_projection.bias)
    inner = mixer.num_heads * mixer.head_dim
    assert len(weight) == 2 * inner, "there is a query and a value projection, and no other"
    result = []
    for head in range(mixer.num_heads):
        own = np.arange(head * mixer.head_dim, (head + 1) * mixer.head_dim)
        result.append(tuple(x @ weight[rows].T + bias[rows] for rows in (own, inner + own)))
    return result


def affinities(query: Array, factors: Array) -> Array:
    """A(x, y) = Q(x) F Q(y) / sqrt(e), a double sum for every pair of tokens: (n, e), (e, e) -> (n, n)"""
    length, width = query.shape
    scores = np.zeros((length, length))
    for i in range(length):
        for j in range(length):
            scores[i, j] = np.sum(np.outer(query[i], query[j]) * factors) / np.sqrt(width)
    return scores


def symmetric(mixer: nn.Module, x: Array) -> Array:
    mixed = []
    for query, value in queries_and_values(mixer, x):
        scores = affinities(query, np.eye(mixer.head_dim))
        np.testing.assert_allclose(scores, scores.T, rtol=1e-12, atol=1e-12)
        mixed.append(np.stack([softmax(row) @ value for row in scores]))
    return output(mixer, mixed)


PROOF = Proof(symmetric)
