"""Linear attention with the feature map elu(x) + 1, in its bidirectional form."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer


class LinearTransformer(MultiHeadMixer):
    """phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K) + eps), with phi(x) = elu(x) + 1.

    Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention. Katharopoulos,
    Vyas, Pappas, Fleuret, 2020, arXiv 2006.16236, eqs. 4 to 7. phi(K) is zeroed at padding, not K:
    phi(0) is 1. There are no attention weights, hence no dropout on them.

    eps: keeps the normaliser from zero (1e-6 in the authors' code; the paper has none).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        eps: float = 1e-6,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(eps > 0, "eps", eps, "above 0, or a row without a real key divides by zero")
        self.eps = eps

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        query = _phi(query, None)
        key = _phi(key, None if mask is None else mask[:, None, :, None])
        # A column of ones beside V turns the normaliser into one more column of the same products.
        extended = F.pad(value, (0, 1), value=1.0)  # (b, h, n, e + 1)
        # Associativity (eq. 5): e x (e + 1) numbers a head stand for the n x n matrix.
        mixed = query @ (key.transpose(-2, -1) @ extended)  # (b, h, n, e + 1)
        return mixed[..., :-1] / (mixed[..., -1:] + self.eps)

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """phi(K)^T V and phi(Q) times it, with the column of ones: 2 n e (e + 1) per head each."""
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        columns = num_heads * (head_dim + 1)
        # phi(Q) and phi(K) in place of Q and K. Beside V its ones; the products and the normaliser.
        kept = length * (columns + 2 * num_heads) + columns * head_dim
        return Cost(
            projections.flops + 4 * length * columns * head_dim,
            projections.activation_bytes + 4 * kept,
        )


class _EluPlusOne(torch.autograd.Function):
    """elu(x) + 1 at real tokens, 0 at padding, laid out for matrix products.

    Its slope is 1 where the result is above 1 and the result itself below, so the result is all
    that backward needs; composing elu, the sum and the mask would keep up to three tensors. At
    padding the result, and with it the slope, is 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        # Always a copy: what follows works in place.
        phi = F.elu(x.clone(memory_format=torch.contiguous_format), inplace=True).add_(1)
        if mask is not None:
            phi.masked_fill_(~mask, 0)
        ctx.save_for_backward(phi)
        return phi

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (phi,) = ctx.saved_tensors
        return grad * phi.clamp(max=1), None


def _phi(x: Tensor, mask: Tensor | None) -> Tensor:
    phi: Tensor = _EluPlusOne.apply(x, mask)  # type: ignore[no-untyped-call]
    return phi
