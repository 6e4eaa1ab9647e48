"""Shatter (Tian et al. 2021), one pair of tokens at a time."""

from __future__ import annotations

import math

import numpy as np
from references.attention import Array, array, output, softmax
from references.proof import Proof
from torch import nn


def bernstein(degree: int, place: float) -> list[float]:
    """All polynomials of this degree, by de Casteljau's recursion."""
    values = [1.0]
    for _ in range(degree):
        lower, upper = [*values, 0.0], [0.0, *values]
        values = [(1 - place) * a + place * b for a, b in zip(lower, upper, strict=True)]
    return values


def parts_at(distance: int, num_parts: int, max_distance: int) -> list[float]:
    """How much of a key at this distance (positive: later than the query) each part holds."""
    reach = min(1.0, math.log(1 + abs(distance)) / math.log(1 + max_distance))
    return bernstein(num_parts - 1, 0.5 + math.copysign(0.5 * reach, distance))


def shatter(mixer: nn.Module, x: Array) -> Array:
    length, dim = x.shape
    weight, bias = array(mixer.input_projection.weight), array(mixer.input_projection.bias)
    inner = mixer.num_heads * mixer.head_dim
    matrices = mixer.num_matrices
    width = inner // matrices
    projected = x @ weight.T + bias
    scored = width if mixer.key_projection else dim
    queries, values = projected[:, : matrices * scored], projected[:, -inner:]
    keys = projected[:, matrices * scored : -inner] if mixer.key_projection else np.tile(x, matrices)
    mixed = np.zeros((length, inner))
    for head in range(matrices):
        query, key = (part[:, head * scored : (head + 1) * scored] for part in (queries, keys))
        for i in range(length):
            scores = np.array([query[i] @ key[j] for j in range(length)]) / math.sqrt(scored)
            if mixer.sigmoid:
                attention = np.array([1 / (1 + length * math.exp(-score)) for score in scores])
            else:
                attention = softmax(scores)
            for j in range(length):
                held = parts_at(j - i, mixer.num_parts, mixer.max_distance) if mixer.partition else [1.0]
                for column in range(width):
                    part = column * len(held) // width
                    place = head * width + column
                    mixed[i, place] += attention[j] * held[part] * values[j, place]
    return output(mixer, [mixed])


OFF = {"single_head": False, "partition": False, "sigmoid": False, "key_projection": True}

PROOF = Proof(
    shatter,
    {
        "near": {"max_distance": 5},
        "one-part": {"num_parts": 1},
        "many-parts": {"num_parts": 6, "max_distance": 20},
        "heads": {"single_head": False, "num_parts": 2},
        "no-partition": {"partition": False},
        "softmax": {"sigmoid": False},
        "keys": {"key_projection": True},
        "transformer": OFF,
        "only-single": {**OFF, "single_head": True},
        "only-partition": {**OFF, "partition": True, "num_parts": 2},
        "only-sigmoid": {**OFF, "sigmoid": True},
        "only-no-keys": {**OFF, "key_projection": False},
    },
    ({"num_parts": 0}, {"num_parts": 5}, {"max_distance": 0}),
)
