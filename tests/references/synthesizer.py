"""Synthesizer (Tay et al. 2020): the n x n logits of every mode, element by element."""

from __future__ import annotations

import math

import numpy as np
from references.attention import Array, array, output, softmax
from references.proof import Proof
from torch import nn


def linear(layer: nn.Linear, x: Array) -> Array:
    return x @ array(layer.weight).T + array(layer.bias)


def head_of(x: Array, head: int, width: int) -> Array:
    return x[:, head * width : (head + 1) * width]


def dense(hidden: Array, weight: Array, bias: Array) -> Array:
    return np.maximum(hidden, 0) @ weight.T + bias


def logits(mixer: nn.Module, x: Array, head: int) -> Array:
    length, width = len(x), mixer.head_dim
    scores = np.zeros((length, length))
    if mixer.mode == "random":
        return array(mixer.R)[head, :length, :length]
    if mixer.mode == "factorized_random":
        first, second = array(mixer.R1)[:, head], array(mixer.R2)[:, head]
        for i in range(length):
            for j in range(length):
                scores[i, j] = sum(first[i, r] * second[j, r] for r in range(mixer.rank))
        return scores
    if mixer.mode == "mixture":
        both = linear(mixer.query_key_projection, x)
        inner = mixer.num_heads * width
        query, key = head_of(both[:, :inner], head, width), head_of(both[:, inner:], head, width)
        share = 1 / (1 + math.exp(-array(mixer.share)[head]))
        random = array(mixer.R)[head, :length, :length]
        return (1 - share) * query @ key.T / math.sqrt(width) + share * random
    hidden = head_of(linear(mixer.hidden_projection, x), head, width)
    if mixer.mode == "dense":
        return dense(hidden, array(mixer.W2)[head], array(mixer.b2)[head])[:, :length]
    left = dense(hidden, array(mixer.WA)[head], array(mixer.bA)[head])
    right = dense(hidden, array(mixer.WB)[head], array(mixer.bB)[head])
    tiles = right.shape[1]
    for i in range(length):
        for j in range(length):
            scores[i, j] = left[i, j // tiles] * right[i, j % tiles]
    return scores


def synthesizer(mixer: nn.Module, x: Array) -> Array:
    values = linear(mixer.value_projection, x)
    mixed = []
    for head in range(mixer.num_heads):
        weights = np.stack([softmax(row) for row in logits(mixer, x, head)])
        mixed.append(weights @ head_of(values, head, mixer.head_dim))
    return output(mixer, mixed)


PROOF = Proof(
    synthesizer,
    {
        "dense": {"mode": "dense"},
        "random": {"mode": "random"},
        "factorized-dense": {"mode": "factorized_dense"},
        "factors-of-5": {"mode": "factorized_dense", "factor_size": 5},
        "rank-2": {"rank": 2},
        "rank-above-head": {"rank": 11},
        "mixture": {"mode": "mixture"},
    },
    ({"rank": 0}, {"mode": "sparse"}, {"factor_size": 0}),
)
