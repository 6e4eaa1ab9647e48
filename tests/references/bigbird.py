"""BigBird (Zaheer et al. 2020, the internal construction): a set of allowed keys for every token.

The random blocks are drawn here again, in Python's integers: the r first of what is left, in the order
of a hash.
"""

from __future__ import annotations

import math

import numpy as np
from references.attention import Array, attend, heads, output
from references.proof import Proof
from torch import nn


def scramble(number: int) -> int:
    number ^= number >> 16
    number = number * 0x21F0AAAD % 2**32
    number ^= number >> 15
    number = number * 0x735A2D97 % 2**32
    return number ^ number >> 15


def order(mixer: nn.Module, head: int, own: int, other: int) -> int:
    state = scramble(mixer.seed)
    for number in (mixer.layer_index, head, own, other):
        state = scramble(state ^ number)
    return state


def blocks_seen(mixer: nn.Module, head: int, own: int, count: int) -> set[int]:
    """Of a block that is not global."""
    half = mixer.window_blocks // 2
    seen = set(range(max(own - half, 0), min(own + half + 1, count))) if mixer.window_blocks else set()
    seen |= set((0, count - 1)[: mixer.num_global_blocks])
    left = sorted(set(range(count)) - seen, key=lambda other: -order(mixer, head, own, other))
    return seen | set(left[: mixer.num_random_blocks])


def bigbird(mixer: nn.Module, x: Array) -> Array:
    length, size = len(x), mixer.block_size
    count = math.ceil(length / size)
    is_global = {0: mixer.num_global_blocks >= 1}
    is_global[count - 1] = is_global.get(count - 1, False) or mixer.num_global_blocks == 2
    mixed = []
    for head, (query, key, value) in enumerate(heads(mixer, x)):
        rows = []
        for i in range(length):
            own = i // size
            everything = is_global.get(own, False)
            seen = set(range(count)) if everything else blocks_seen(mixer, head, own, count)
            near = [j for j in range(length) if j // size in seen]
            rows.append(attend(query[i : i + 1], key[near], value[near])[0])
        mixed.append(np.stack(rows))
    return output(mixer, mixed)


PROOF = Proof(
    bigbird,
    {
        "block-4": {"block_size": 4, "num_random_blocks": 1},
        "block-2": {"block_size": 2},
        "block-1": {"block_size": 1, "window_blocks": 5, "num_random_blocks": 2, "seed": 7},
        "window-only": {"block_size": 3, "num_global_blocks": 0, "num_random_blocks": 0},
        "window-global": {"block_size": 3, "num_random_blocks": 0},
        "global-only": {"block_size": 4, "window_blocks": 0, "num_random_blocks": 0},
        "random-only": {"block_size": 3, "window_blocks": 0, "num_global_blocks": 0, "num_random_blocks": 2},
        "first-global": {"block_size": 3, "num_global_blocks": 1, "num_random_blocks": 1},
        "own-and-random": {"block_size": 2, "window_blocks": 1, "num_global_blocks": 0},
    },
    (
        {"block_size": 0},
        {"window_blocks": 2},
        {"window_blocks": -1},
        {"num_global_blocks": 3},
        {"num_random_blocks": -1},
        {"window_blocks": 0, "num_global_blocks": 0, "num_random_blocks": 0},
        {"seed": -1},
    ),
)
