"""Linformer (Wang et al. 2020, eq. 7): each slot is a sum over tokens, written as a loop."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, attend, heads, output
from references.proof import Proof
from torch import nn


def linformer(mixer: nn.Module, x: Array) -> Array:
    mixed = []
    for head, (query, key, value) in enumerate(heads(mixer, x)):
        E, F = projections(mixer, head)
        slot_keys, slot_values = np.zeros((2, mixer.rank, mixer.head_dim))
        for position in range(len(x)):
            slot_keys += np.outer(E[:, position], key[position])
            slot_values += np.outer(F[:, position], value[position])
        mixed.append(attend(query, slot_keys, slot_values))
    return output(mixer, mixed)


def projections(mixer: nn.Module, head: int) -> tuple[Array, Array]:
    """E and F of one head, (k, max_length), as section 4 shares them."""
    E = array(mixer.E)
    if mixer.sharing == "none":
        return E[head], array(mixer.F)[head]
    if mixer.sharing == "headwise":
        return E, array(mixer.F)
    return E, E


PROOF = Proof(
    linformer,
    {sharing: {"rank": 6, "sharing": sharing} for sharing in ("none", "headwise", "key_value", "layerwise")},
    ({"rank": 0}, {"sharing": "all"}),
)
