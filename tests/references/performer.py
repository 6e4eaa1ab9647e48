"""FAVOR+ (Choromanski et al. 2020, lemma 1) as the n x n matrix of estimated kernel values."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, heads, output
from references.proof import Proof
from torch import nn


def log_features(x: Array, projection: Array) -> Array:
    """log of sqrt(m) phi(x / e^(1/4)), phi as in lemma 1: exp(w x - |x|^2 / 2) / sqrt(m)."""
    scaled = x / x.shape[1] ** 0.25
    return scaled @ projection.T - (scaled * scaled).sum(axis=1, keepdims=True) / 2


def performer(mixer: nn.Module, x: Array) -> Array:
    projection = array(mixer.projection)
    mixed = []
    for query, key, value in heads(mixer, x):
        query_logs, key_logs = log_features(query, projection), log_features(key, projection)
        query_features = np.exp(query_logs - query_logs.max(axis=1, keepdims=True)) + mixer.eps
        key_features = np.exp(key_logs - key_logs.max()) + mixer.eps
        kernel = query_features @ key_features.T  # (n, n)
        mixed.append(kernel @ value / kernel.sum(axis=1, keepdims=True))
    return output(mixer, mixed)


PROOF = Proof(
    performer,
    {
        "few-features": {"num_features": 7},
        "independent": {"num_features": 9, "orthogonal": False},
        "eps": {"eps": 1e-3},
    },
    ({"num_features": 0}, {"redraw_interval": -1}, {"eps": 0.0}),
)
