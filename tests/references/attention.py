"""Softmax attention, one query at a time, in float64; and what all heads of all oracles share.

An oracle takes a mixer, for its weights and options only, and one unpadded sequence as a numpy
array (n, d). It never sees a mask: a padded batch is right if each row is what its real tokens
alone give.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]


def array(tensor: object) -> Array:
    return tensor.detach().cpu().numpy().astype(np.float64)  # type: ignore[attr-defined,no-any-return]


def heads(mixer: nn.Module, x: Array) -> list[tuple[Array, Array, Array]]:
    """(query, key, value), each (n, e), of every head."""
    weight, bias = array(mixer.input_projection.weight), array(mixer.input_projection.bias)
    width, inner = mixer.head_dim, mixer.num_heads * mixer.head_dim
    result = []
    for head in range(mixer.num_heads):
        three = []
        for part in range(3):
            rows = slice(part * inner + head * width, part * inner + (head + 1) * width)
            three.append(x @ weight[rows].T + bias[rows])
        result.append((three[0], three[1], three[2]))
    return result


def output(mixer: nn.Module, mixed: list[Array]) -> Array:
    """Heads (n, e) -> (n, d)"""
    weight, bias = array(mixer.output_projection.weight), array(mixer.output_projection.bias)
    return np.concatenate(mixed, axis=1) @ weight.T + bias


def softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def attend(query: Array, key: Array, value: Array) -> Array:
    """Every query by itself: (n, e), (s, e), (s, e) -> (n, e)"""
    width = query.shape[1]
    return np.stack([softmax(key @ row / np.sqrt(width)) @ value for row in query])


def transformer(mixer: nn.Module, x: Array) -> Array:
    """Vaswani et al. 2017, eq. 1."""
    return output(mixer, [attend(*head) for head in heads(mixer, x)])
