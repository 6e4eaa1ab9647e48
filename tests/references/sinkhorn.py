"""Sparse Sinkhorn attention (Tay et al. 2020), token by token, Sinkhorn's scalings as plain divisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from references.attention import Array, array, heads, output, softmax
from references.proof import SIZES, Proof
from torch import nn


def shares(mixer: nn.Module, head: int, query: Array, key: Array, blocks: list[range]) -> Array:
    """S (blocks, blocks) of a head, in float64 without logarithms."""
    pooled = np.stack([np.concatenate([query[block].sum(0), key[block].sum(0)]) for block in blocks])
    if mixer.sort_hidden is None:
        scores = np.maximum(pooled @ array(mixer.sort_output)[head], 0)[:, : len(blocks)]
    else:
        hidden = np.maximum(pooled @ array(mixer.sort_hidden)[head], 0)
        scores = (hidden @ array(mixer.sort_output)[head])[:, : len(blocks)]
    matrix = np.exp((scores - scores.max()) / mixer.temperature)  # a factor over all is divided out again
    for _ in range(mixer.num_iterations):
        matrix = matrix / matrix.sum(axis=1, keepdims=True)
        matrix = matrix / matrix.sum(axis=0, keepdims=True)
    return matrix


def sinkhorn(mixer: nn.Module, x: Array) -> Array:
    length, size = len(x), mixer.block_size
    blocks = [range(start, min(start + size, length)) for start in range(0, length, size)]
    mixed = []
    for head, (query, key, value) in enumerate(heads(mixer, x)):
        share = shares(mixer, head, query, key, blocks)
        result = np.zeros_like(value)
        for i, block in enumerate(blocks):
            keys, values = list(key[block]), list(value[block])
            for slot in range(size):
                # Of the blocks that have a token at this place, which only the last may lack.
                having = [j for j, other in enumerate(blocks) if slot < len(other)]
                if not having:
                    continue
                weights = share[i, having] * share[i].sum() / max(share[i, having].sum(), 1e-12)
                keys.append(sum(w * key[blocks[j][slot]] for w, j in zip(weights, having, strict=True)))
                values.append(sum(w * value[blocks[j][slot]] for w, j in zip(weights, having, strict=True)))
            for token in block:
                weight = softmax(np.stack(keys) @ query[token] / np.sqrt(mixer.head_dim))
                result[token] = weight @ np.stack(values)
        mixed.append(result)
    return output(mixer, mixed)


PROOF = Proof(
    sinkhorn,
    {
        "block-4": {"block_size": 4},
        "block-5-one-layer": {"block_size": 5, "sort_layers": 1, "num_iterations": 2, "temperature": 2.0},
        "block-1": {"block_size": 1, "num_iterations": 1},
        "no-noise": {"block_size": 8, "gumbel_noise": False},
    },
    (
        {"block_size": 0},
        {"num_iterations": 0},
        {"temperature": 0.0},
        {"sort_layers": 3},
    ),
    smooth={"gumbel_noise": False},
    # Long enough for the default block to have others to sort.
    sizes=replace(SIZES, max_length=160),
)
