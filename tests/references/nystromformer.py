"""Nystromformer (Xiong et al. 2021): three softmax matrices written out, sums for the convolution."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, heads, output, softmax
from references.proof import Proof
from torch import nn


def segments(length: int, landmarks: int) -> list[list[int]]:
    """Consecutive tokens; the first segments are a token shorter where they can't be equal."""
    count = min(landmarks, length)
    sizes = [length // count] * count
    for last in range(length % count):
        sizes[count - 1 - last] += 1
    ends = np.cumsum([0, *sizes])
    return [list(range(ends[i], ends[i + 1])) for i in range(count)]


def pseudo_inverse(matrix: Array, iterations: int) -> Array:
    identity = np.eye(len(matrix))
    inverse = matrix.T / (np.abs(matrix).sum(axis=0).max() * np.abs(matrix).sum(axis=1).max())
    for _ in range(iterations):
        product = matrix @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = inverse @ (13 * identity - product @ inner) / 4
    return inverse


def rows_of_softmax(query: Array, key: Array) -> Array:
    return np.stack([softmax(key @ row / np.sqrt(query.shape[1])) for row in query])


def convolution(value: Array, kernel: Array) -> Array:
    result = np.zeros_like(value)
    for i in range(len(value)):
        for t, weight in enumerate(kernel):
            source = i + t - len(kernel) // 2
            if 0 <= source < len(value):
                result[i] += weight * value[source]
    return result


def nystromformer(mixer: nn.Module, x: Array) -> Array:
    parts = segments(len(x), mixer.num_landmarks)
    mixed = []
    for head, (query, key, value) in enumerate(heads(mixer, x)):
        query_means, key_means = (
            np.stack([rows[part].mean(axis=0) for part in parts]) for rows in (query, key)
        )
        inverse = pseudo_inverse(rows_of_softmax(query_means, key_means), mixer.pinv_iterations)
        weights = rows_of_softmax(query, key_means) @ inverse @ rows_of_softmax(query_means, key)  # (n, n)
        convolved = 0 if mixer.kernel is None else convolution(value, array(mixer.kernel)[head])
        mixed.append(weights @ value + convolved)
    return output(mixer, mixed)


PROOF = Proof(
    nystromformer,
    {
        "landmarks-4": {"num_landmarks": 4},
        "landmarks-5-kernel-3": {"num_landmarks": 5, "conv_kernel_size": 3},
        "no-convolution": {"num_landmarks": 8, "conv_kernel_size": None},
        "one-landmark": {"num_landmarks": 1, "conv_kernel_size": 1},
        "two-iterations": {"num_landmarks": 4, "pinv_iterations": 2},
    },
    ({"num_landmarks": 0}, {"pinv_iterations": 0}, {"conv_kernel_size": 4}, {"conv_kernel_size": -1}),
)
