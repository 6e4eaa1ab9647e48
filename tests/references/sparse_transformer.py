"""Sparse Transformer (Child et al. 2019): the n x n set of allowed pairs, written out pair by pair."""

from __future__ import annotations

import numpy as np
from references.attention import Array, attend, heads, output
from references.proof import Proof
from torch import nn


def near(mixer: nn.Module, i: int, j: int) -> bool:
    if mixer.pattern == "strided":
        return abs(i - j) < mixer.stride
    return i // mixer.stride == j // mixer.stride


def far(mixer: nn.Module, i: int, j: int) -> bool:
    if mixer.pattern == "strided":
        return (i - j) % mixer.stride == 0
    return j % mixer.stride in range(mixer.stride - mixer.num_summary, mixer.stride)


def sees(mixer: nn.Module, head: int, i: int, j: int) -> bool:
    if mixer.causal and j > i:
        return False
    if i == j:
        return True
    match mixer.heads:
        case "merged":
            return near(mixer, i, j) or far(mixer, i, j)
        case "split":
            return (near if head < mixer.num_heads // 2 else far)(mixer, i, j)
        case "interleaved":
            return (near, far)[mixer.layer_index % 2](mixer, i, j)
    raise ValueError(mixer.heads)


def sparse_transformer(mixer: nn.Module, x: Array) -> Array:
    mixed = []
    for head, (query, key, value) in enumerate(heads(mixer, x)):
        rows = []
        for i in range(len(x)):
            seen = [j for j in range(len(x)) if sees(mixer, head, i, j)]
            rows.append(attend(query[i : i + 1], key[seen], value[seen])[0])
        mixed.append(np.stack(rows))
    return output(mixer, mixed)


def named() -> dict[str, dict[str, object]]:
    strided = {"pattern": "strided", "stride": 5}
    fixed = {"pattern": "fixed", "stride": 6, "num_summary": 2}
    variants: dict[str, dict[str, object]] = {}
    for name, options in (("strided", strided), ("fixed", fixed)):
        for heads_ in ("merged", "split", "interleaved"):
            for causal in (False, True):
                label = f"{name}-{heads_}" + ("-causal" if causal else "")
                variants[label] = {**options, "heads": heads_, "causal": causal}
    return {
        **variants,
        "stride-1": {"stride": 1},
        "all-summary": {"pattern": "fixed", "stride": 3, "num_summary": 3},
        "one-block-causal": {"causal": True},
    }


PROOF = Proof(
    sparse_transformer,
    named(),
    (
        {"stride": 0},
        {"pattern": "random"},
        {"heads": "both"},
        {"num_summary": 0, "pattern": "fixed"},
        {"num_summary": 65, "pattern": "fixed"},
    ),
)
