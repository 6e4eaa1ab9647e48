"""Transformer-XL (Dai et al. 2019): one segment after the other, with a memory carried along.

A token is known by its place in the sequence; a segment looks up what it may see, and each pair of
query and key gets its distance's sinusoid by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from references.attention import Array, array, heads, output, softmax
from references.proof import Proof
from torch import nn

from lra_bench.validation.subject import Sizes

SIZES = Sizes(dim=10, num_heads=3, head_dim=4, max_length=300, ffn_dim=14)
"""Long enough for three of the default segments."""


def sinusoid(distance: int, dim: int) -> Array:
    """Sines of distance / 10000^(2 i / dim), then cosines."""
    angles = [distance / 10000 ** (2 * i / dim) for i in range((dim + 1) // 2)]
    return np.array([np.sin(angle) for angle in angles] + [np.cos(angle) for angle in angles])[:dim]


def scores_of(mixer: nn.Module, head: int) -> Callable[[Array, Array, int], float]:
    """(query, key, distance) -> their score, before the softmax: section 3.3."""
    width = mixer.head_dim
    if not hasattr(mixer.scores, "content_bias"):
        return lambda query, key, distance: float(query @ key) / np.sqrt(width)
    rows = slice(head * width, (head + 1) * width)
    projection = array(mixer.scores.position_projection.weight)[rows]  # W_r
    u, v = array(mixer.scores.content_bias)[head], array(mixer.scores.position_bias)[head]
    dim = projection.shape[1]

    def score(query: Array, key: Array, distance: int) -> float:
        content = (query + u) @ key
        position = (query + v) @ (projection @ sinusoid(distance, dim))
        return float(content + position) / np.sqrt(width)

    return score


def transformer_xl(mixer: nn.Module, x: Array) -> Array:
    mixed = []
    for head, (query, key, value) in enumerate(heads(mixer, x)):
        score = scores_of(mixer, head)
        rows: list[Array] = []
        memory: list[int] = []
        for start in range(0, len(x), mixer.segment_length):
            segment = list(range(start, min(start + mixer.segment_length, len(x))))
            visible = memory + segment
            for i in segment:
                weights = softmax(np.array([score(query[i], key[j], i - j) for j in visible]))
                rows.append(weights @ value[visible])
            kept = memory + segment
            memory = kept[max(0, len(kept) - mixer.memory_length) :]
        mixed.append(np.stack(rows))
    return output(mixer, mixed)


PROOF = Proof(
    transformer_xl,
    {
        "short": {"segment_length": 5, "memory_length": 5},
        "long-memory": {"segment_length": 4, "memory_length": 11},
        "short-memory": {"segment_length": 6, "memory_length": 2},
        "no-memory": {"segment_length": 5, "memory_length": 0},
        "plain": {"segment_length": 5, "memory_length": 7, "relative_positions": False},
        "blocks": {"segment_length": 8, "memory_length": 0, "relative_positions": False},
        "single": {"segment_length": 1, "memory_length": 3},
        "gradients": {"segment_length": 3, "memory_length": 4, "stop_gradient": False},
    },
    ({"segment_length": 0}, {"memory_length": -1}),
    smooth={"stop_gradient": False},
    sizes=SIZES,
)
