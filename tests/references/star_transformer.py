"""Star-Transformer (Guo et al. 2019): dense attention over [H; E; s] with a list of what each sees."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, heads, output, softmax
from references.proof import Proof
from torch import nn

from lra_bench.validation.subject import Sizes


def multi_att(attention: nn.Module, query_rows: Array, rows: Array, seen: list[list[int]]) -> Array:
    """Row k of `query_rows` over the rows whose numbers are in seen[k], repeated where they are repeated."""
    queries = [head[0] for head in heads(attention, query_rows)]
    mixed = []
    for query, (_, key, value) in zip(queries, heads(attention, rows), strict=True):
        per_row = []
        for one, numbers in zip(query, seen, strict=True):
            weights = softmax(key[numbers] @ one / np.sqrt(attention.head_dim))
            per_row.append(weights @ value[numbers])
        mixed.append(np.stack(per_row))
    return output(attention, mixed)


def layer_norm(norm: nn.Module, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + norm.eps)
    return scaled * array(norm.weight) + array(norm.bias)


def context(encoder: nn.Module, i: int, n: int) -> list[int]:
    """Of satellite i, in the rows h_0 ... h_{n-1}, e_0 ... e_{n-1}, s."""
    match encoder.ring:
        case "circular":
            numbers = [(i - 1) % n, i, (i + 1) % n]
        case "open":
            numbers = [j for j in (i - 1, i, i + 1) if 0 <= j < n]
        case "none":
            numbers = [i]
    return [*numbers, n + i, *([2 * n] if encoder.relay else [])]


def star_transformer(encoder: nn.Module, x: Array) -> Array:
    n = len(x)
    embedded, satellites, relay = x, x, x.sum(axis=0, keepdims=True) / n
    for layer, attention in enumerate(encoder.satellites):
        rows = np.concatenate([satellites, embedded, relay])
        new = np.maximum(
            multi_att(attention, satellites, rows, [context(encoder, i, n) for i in range(n)]), 0
        )
        satellites = layer_norm(attention.norm, satellites + new if encoder.residual else new)
        if encoder.relay:
            hub = encoder.relays[layer]
            rows = np.concatenate([relay, satellites])
            new = np.maximum(multi_att(hub, relay, rows, [list(range(n + 1))]), 0)
            relay = layer_norm(hub.norm, relay + new if encoder.residual else new)
    return (satellites + relay) / 2 if encoder.relay else satellites


PROOF = Proof(
    star_transformer,
    {
        "open": {"ring": "open"},
        "no-ring": {"ring": "none"},
        "no-relay": {"relay": False},
        "residual": {"residual": True},
    },
    ({"ring": "closed"},),
    # Of one relay a row ReLU leaves few units alive: these sizes have enough of them to see gradients.
    sizes=Sizes(dim=12, num_heads=3, head_dim=5, max_length=48, ffn_dim=14),
)
