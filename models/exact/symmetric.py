"""Symmetric attention: one projection serves as query and as key."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lra_bench.mixer import Cost, split_heads
from lra_bench.models.exact.transformer import Transformer


class Symmetric(Transformer):
    """softmax(Q Q^T / sqrt(e)) V: the scores are a symmetric matrix, its rows' softmax is not.

    Symmetric Dot-Product Attention for Efficient Training of BERT Language Models. Courtois,
    Ostendorff, Hennig, Rehm, 2024, arXiv 2406.06366, the symmetric operator; as in the authors' code
    (github.com/mcrts/ACL2024-SymmetricAttentionBert, `BertSelfAttention_Symmetric`), keys are the
    queries with their bias. Against softmax attention one projection of d x h e, with its bias, is saved.
    """

    def __init__(self, dim: int, num_heads: int, **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        # Rows are query and value, in this order.
        self.input_projection = nn.Linear(dim, 2 * num_heads * self.head_dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, d) -> three of (b, h, n, e), the first two of which are the same tensor."""
        query, value = self.input_projection(x).chunk(2, dim=-1)  # (b, n, h * e) each
        query = split_heads(query, self.num_heads)
        return query, query, split_heads(value, self.num_heads)

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """Three projections; Q Q^T and A V, 2 n^2 e per head each. Kept as well: a log-sum-exp per query."""
        inner = num_heads * head_dim
        kept = length * (dim + 3 * inner + num_heads)  # input, query, value, merged heads
        return Cost(2 * length * dim * inner * 3 + 4 * length * length * inner, 4 * kept)
