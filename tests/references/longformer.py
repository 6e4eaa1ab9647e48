"""Longformer (Beltagy et al. 2020, section 3.1): a set of allowed keys for every token."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, attend, heads, output
from references.proof import Proof
from torch import nn


def global_heads(mixer: nn.Module, x: Array) -> list[tuple[Array, Array, Array]]:
    """Q_g, K_g, V_g of every head; the window's where they are shared."""
    if mixer.global_projection is None:
        return heads(mixer, x)
    weight, bias = array(mixer.global_projection.weight), array(mixer.global_projection.bias)
    projected = (x @ weight.T + bias).reshape(len(x), 3, mixer.num_heads, mixer.head_dim)
    return [tuple(projected[:, part, head] for part in range(3)) for head in range(mixer.num_heads)]


def longformer(mixer: nn.Module, x: Array) -> Array:
    length, dilation = len(x), mixer.dilation
    steps = range(-(mixer.window // 2), mixer.window // 2 + 1)
    of_global = global_heads(mixer, x) if mixer.num_global else heads(mixer, x)
    mixed = []
    for (query, key, value), (query_g, key_g, value_g) in zip(heads(mixer, x), of_global, strict=True):
        rows = []
        for i in range(length):
            if i < mixer.num_global:
                rows.append(attend(query_g[i : i + 1], key_g, value_g)[0])
                continue
            allowed = {i + step * dilation for step in steps} | set(range(mixer.num_global))
            near = sorted(j for j in allowed if 0 <= j < length)
            rows.append(attend(query[i : i + 1], key[near], value[near])[0])
        mixed.append(np.stack(rows))
    return output(mixer, mixed)


PROOF = Proof(
    longformer,
    {
        "window-4": {"window": 4},
        "window-16": {"window": 16},
        "window-36": {"window": 36},
        "window-only": {"window": 6, "num_global": 0},
        "dilated": {"window": 4, "dilation": 3, "num_global": 2},
        "dilated-wide": {"window": 16, "dilation": 2, "num_global": 0},
        "three-global": {"window": 4, "num_global": 3},
        "shared-projections": {"window": 4, "num_global": 2, "global_projections": False},
    },
    ({"window": 0}, {"window": 5}, {"dilation": 0}, {"num_global": -1}),
)
