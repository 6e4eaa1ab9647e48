"""The authors' attention classes, and the same composed of torch's modules.

The authors' code is no package and its file imports parts of transformers that no longer exist, so the
two classes alone are taken out of it. SYMMETRIC_ATTENTION names the file:
plpi/src/plpi/models/bert/modeling_bert.py of github.com/mcrts/ACL2024-SymmetricAttentionBert at fb6dcbc.
"""

from __future__ import annotations

import ast
import math
import os
import typing
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

SOURCE = "mcrts/ACL2024-SymmetricAttentionBert@fb6dcbc"


def authors_class(name: str) -> type[nn.Module]:
    """A class of the authors' file, run by itself."""
    path = os.environ.get("SYMMETRIC_ATTENTION")
    if not path:
        raise ImportError("SYMMETRIC_ATTENTION does not name the authors' modeling_bert.py")
    tree = ast.parse(Path(path).read_text("utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    known = {"torch": torch, "nn": nn, "math": math, "Optional": typing.Optional, "Tuple": tuple}
    exec(compile(tree, path, "exec"), known)
    return known[name]  # type: ignore[return-value]


class Authors(nn.Module):
    """Their attention with the linear layer that follows it in theirs."""

    def __init__(self, name: str, dim: int, num_heads: int) -> None:
        super().__init__()
        config = SimpleNamespace(
            hidden_size=dim,
            num_attention_heads=num_heads,
            attention_probs_dropout_prob=0.0,
            position_embedding_type="absolute",
            is_decoder=False,
        )
        self.attention = authors_class(name)(config)
        self.dense = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        added = None
        if mask is not None:
            added = torch.zeros_like(x[..., 0]).masked_fill(~mask, -1e9)[:, None, None, :]
        return self.dense(self.attention(x, added)[0])


class Composed(nn.Module):
    """Two projections and torch's fused attention, with factors or without."""

    def __init__(self, pairwise: bool) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(128, 128) for _ in range(3))
        self.factors = nn.Parameter(torch.randn(4, 32, 32)) if pairwise else None

    def forward(self, x: Tensor) -> Tensor:
        query, value = (layer(x).unflatten(-1, (4, 32)).transpose(1, 2) for layer in (self.query, self.value))
        left = query if self.factors is None else query @ self.factors
        return self.out(F.scaled_dot_product_attention(left, query, value).transpose(1, 2).flatten(2))


def give(mixer: nn.Module, state: Weights) -> None:
    for part in ("weight", "bias"):
        both = torch.cat([state[f"attention.query.{part}"], state[f"attention.value.{part}"]])
        assign(getattr(mixer.input_projection, part), both)
        assign(getattr(mixer.output_projection, part), state[f"dense.{part}"])


PARITIES = {
    "authors": Parity(
        SOURCE,
        lambda: Authors("BertSelfAttention_Symmetric", SIZES.dim, SIZES.num_heads),
        lambda peer, x, mask: peer(x, mask),
        give,
        remark="the authors' class, and a linear layer for the output projection",
    )
}

SPEEDS = [
    Speed("the authors' code", lambda n: Authors("BertSelfAttention_Symmetric", 128, 4)),
    Speed("composed, with torch's fused attention", lambda n: Composed(pairwise=False)),
]
