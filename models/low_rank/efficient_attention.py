"""Efficient attention: queries and keys are normalised apart, so that keys and values multiply first."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.mixer import Cost, TokenMixer


class EfficientAttention(TokenMixer):
    """rho_q(Q) (rho_k(K)^T V): softmax of each query over its e features, of each feature over the keys.

    Efficient Attention: Attention with Linear Complexities. Shen, Zhang, Zhao, Yi, Li, 2018,
    arXiv 1812.01243, with softmax normalisation. Each of the e columns of rho_k(K) is one
    attention map over the whole sequence, and a query mixes the e maps; the implied n x n weights
    rho_q(Q) rho_k(K)^T are positive and their rows sum to one, so there is neither a scale nor a
    normaliser. Those weights are never formed, hence no dropout on them.

    Nothing stands between the values' projection, the two products and the output's projection, so
    associativity goes on: rho_k(K)^T X comes before W_v, and the e x e contexts meet W_o before they
    meet the queries. Values and mixed heads, n x d numbers each, are never made.
    """

    def __init__(self, dim: int, num_heads: int, **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        inner = num_heads * self.head_dim
        # Rows are query, key, value, in this order, as in every mixer with these projections.
        self.input_projection = nn.Linear(dim, 3 * inner)
        self.output_projection = nn.Linear(inner, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        weights, biases = self.input_projection.weight.chunk(3), self.input_projection.bias.chunk(3)
        query = self.normalise_query(F.linear(x, weights[0], biases[0]))  # (b, n, h * e)
        key = self.normalise_key(F.linear(x, weights[1], biases[1]), mask)  # (b, n, h * e)
        gathered = torch.bmm(key.transpose(1, 2), x)  # (b, h * e, d): the input, pooled by each map
        context = self.context(gathered, weights[2], biases[2])  # (h, b * e, e)
        return torch.baddbmm(self.output_projection.bias, query, self.project_context(context))

    def normalise_query(self, query: Tensor) -> Tensor:
        """rho_q, over the features of each head: (b, n, h * e) -> (b, n, h * e)"""
        heads: Tensor = query.unflatten(-1, (self.num_heads, -1))  # (b, n, h, e)
        return heads.softmax(dim=-1).flatten(-2)

    def normalise_key(self, key: Tensor, mask: Tensor | None) -> Tensor:
        """rho_k, over the real keys: (b, n, h * e) -> (b, n, h * e), 0 at padding."""
        if mask is not None:
            # The lowest number, not -inf: a row without a real token gets equal weights, not NaN.
            key = key.masked_fill(~mask[:, :, None], torch.finfo(key.dtype).min)
        return key.softmax(dim=1)

    def context(self, gathered: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """rho_k(K)^T V, with V's bias as it is since maps sum to one: (b, h * e, d) -> (h, b * e, e)"""
        maps = gathered.unflatten(1, (self.num_heads, -1)).transpose(0, 1).flatten(1, 2)  # (h, b * e, d)
        weight = weight.unflatten(0, (self.num_heads, -1)).transpose(1, 2)  # (h, d, e)
        return torch.baddbmm(bias.view(self.num_heads, 1, -1), maps, weight)

    def project_context(self, context: Tensor) -> Tensor:
        """The contexts, each times its head's columns of W_o: (h, b * e, e) -> (b, h * e, d)"""
        columns = self.output_projection.weight.unflatten(1, (self.num_heads, -1))  # (d, h, e)
        projected = torch.bmm(context, columns.permute(1, 2, 0))  # (h, b * e, d)
        split: Tensor = projected.unflatten(1, (-1, self.head_dim))  # (h, b, e, d)
        return split.transpose(0, 1).flatten(1, 2)

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """Q, K, rho_k(K)^T X and the last product: 2 n d h e each; the contexts: 2 d e^2 per head, twice."""
        inner = num_heads * head_dim
        # The input, normalised Q and K; the pooled input, contexts and projected contexts.
        kept = length * (dim + 2 * inner) + inner * (2 * dim + head_dim)
        return Cost(8 * length * dim * inner + 4 * dim * inner * head_dim, 4 * kept)
