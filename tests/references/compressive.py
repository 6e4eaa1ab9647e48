"""Compressive Transformer (Rae et al. 2019): algorithm 1 with explicit memories, one segment at a time.

Memories are lists of hidden states, and begin empty. A compressed memory is made when its tokens leave.
"""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, heads, output, softmax
from references.proof import Proof
from references.transformer_xl import SIZES, scores_of
from torch import nn


def compressed(mixer: nn.Module, tokens: Array) -> Array:
    """(c, d) -> (d,)"""
    if mixer.compressor == "mean":
        return tokens.mean(axis=0)
    if mixer.compressor == "max":
        return tokens.max(axis=0)
    weight, bias = array(mixer.compression.weight), array(mixer.compression.bias)
    rate, dim = tokens.shape
    return bias + sum(weight[:, step * dim : (step + 1) * dim] @ tokens[step] for step in range(rate))


def steps(mixer: nn.Module, x: Array) -> list[tuple[Array, list[Array], list[Array], list[Array]]]:
    """Of every segment: itself (s, d), its memory, its compressed memory, and what leaves the memory next."""
    found = []
    memory: list[Array] = []
    compressed_memory: list[Array] = []
    for start in range(0, len(x), mixer.segment_length):
        segment = x[start : start + mixer.segment_length]
        together = memory + list(segment)
        leaving = together[: max(0, len(together) - mixer.memory_length)]
        found.append((segment, list(memory), list(compressed_memory), leaving))
        memory = together[len(leaving) :]
        if not mixer.compressed_length:
            continue
        for first in range(0, len(leaving) - len(leaving) % mixer.compression_rate, mixer.compression_rate):
            tokens = np.stack(leaving[first : first + mixer.compression_rate])
            compressed_memory.append(compressed(mixer, tokens))
        compressed_memory = compressed_memory[max(0, len(compressed_memory) - mixer.compressed_length) :]
    return found


def compressive(mixer: nn.Module, x: Array) -> Array:
    mixed: list[list[Array]] = [[] for _ in range(mixer.num_heads)]
    for segment, memory, older, _ in steps(mixer, x):
        window = np.stack([*older, *memory, *segment])
        before = len(window) - len(segment)
        for head, (query, key, value) in enumerate(heads(mixer, window)):
            score = scores_of(mixer, head)
            for i in range(before, len(window)):
                weights = softmax(np.array([score(query[i], key[j], i - j) for j in range(len(window))]))
                mixed[head].append(weights @ value)
    return output(mixer, [np.stack(rows) for rows in mixed])


def reconstruction_loss(mixer: nn.Module, rows: list[Array]) -> float:
    """Algorithm 2 over a batch of unpadded sequences: mean squared difference of the two attentions.

    A segment that is cut off by the end of its sequence is filled up with zeros, that are no keys.
    """
    squares: list[Array] = []
    rate = mixer.compression_rate
    for x in rows:
        for start in range(0, len(x), mixer.segment_length):
            segment = x[start : start + mixer.segment_length]
            first = start - mixer.memory_length
            places = [place for place in range(first, first + mixer.segment_length) if 0 <= place < len(x)]
            if not places:
                continue
            groups = sorted({place // rate for place in places})
            filled = np.concatenate([x, np.zeros((rate, x.shape[1]))])
            slots = np.stack(
                [compressed(mixer, filled[group * rate : (group + 1) * rate]) for group in groups]
            )
            asking = heads(mixer, segment)
            tokens, stand_ins = heads(mixer, x[places]), heads(mixer, slots)
            for (query, _, _), (_, key, value), (_, slot_key, slot_value) in zip(
                asking, tokens, stand_ins, strict=True
            ):
                for row in query:
                    scale = np.sqrt(len(row))
                    expected = softmax(key @ row / scale) @ value
                    got = softmax(slot_key @ row / scale) @ slot_value
                    squares.append((got - expected) ** 2)
    return mixer.reconstruction_weight * float(np.mean(squares))


SHORT = {"segment_length": 4, "memory_length": 4, "compressed_length": 3, "compression_rate": 2}

PROOF = Proof(
    compressive,
    {
        "short": SHORT,
        "thirds": {**SHORT, "segment_length": 6, "memory_length": 3, "compression_rate": 3},
        "long-memory": {**SHORT, "memory_length": 10, "compressed_length": 5},
        "no-memory": {**SHORT, "memory_length": 0},
        "no-slots": {**SHORT, "compressed_length": 0},
        "rate-1": {**SHORT, "compression_rate": 1},
        "mean": {**SHORT, "compressor": "mean"},
        "max": {**SHORT, "compressor": "max", "compressed_length": 40},
        "plain": {**SHORT, "relative_positions": False},
        "one-loss": {**SHORT, "reconstruction_loss": False},
        "gradients": {**SHORT, "reconstruction_loss": False, "stop_gradient": False},
        "max-gradients": {**SHORT, "compressor": "max", "stop_gradient": False},
    },
    (
        {"segment_length": 130},
        {"memory_length": 3},
        {"compressed_length": -1},
        {"compression_rate": 0},
        {"compressor": "dilated"},
        {"reconstruction_weight": -1.0},
    ),
    # The loss of the model does not reach the compressor, which differences see and gradients must not.
    smooth={"stop_gradient": False, "reconstruction_loss": False},
    sizes=SIZES,
)
