"""Local attention (Tay et al. 2020): each token looks up which tokens its blocks hold."""

from __future__ import annotations

import numpy as np
from references.attention import Array, attend, heads, output
from references.proof import Proof
from torch import nn


def local(mixer: nn.Module, x: Array) -> Array:
    length = len(x)
    block_of = [position // mixer.block_size for position in range(length)]
    mixed = []
    for query, key, value in heads(mixer, x):
        rows = []
        for i in range(length):
            near = [j for j in range(length) if abs(block_of[i] - block_of[j]) <= mixer.look_around]
            rows.append(attend(query[i : i + 1], key[near], value[near])[0])
        mixed.append(np.stack(rows))
    return output(mixer, mixed)


PROOF = Proof(
    local,
    {
        "block-5": {"block_size": 5},
        "block-2": {"block_size": 2},
        "neighbours": {"block_size": 4, "look_around": 1},
        "two-neighbours": {"block_size": 3, "look_around": 2},
    },
    ({"block_size": 0}, {"look_around": -1}),
)
