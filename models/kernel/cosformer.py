"""cosFormer: linear attention with ReLU features, weighted by the cosine of the distance."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, split_heads


class CosFormer(MultiHeadMixer):
    """Weights relu(q_i) relu(k_j)^T cos(pi (i - j) / (2 M)), divided by their sum over the keys.

    cosFormer: Rethinking Softmax in Attention. Qin, Sun, Deng, Li, Wei, Lv, Yan, Kong, Zhong, 2022,
    arXiv 2202.08791. The cosine of a difference splits into cos cos + sin sin (Ptolemy's theorem),
    so two feature maps stand for the n x n weights. No weights are formed, hence no dropout on them.

    reweight: the cosine; without it, linear attention with ReLU features is left.
    scale_length: M, max_length unless given. The authors' code takes the length of the batch, so
        that there a token's output depends on how far its batch is padded. At least max_length,
        or the cosine of far pairs turns negative.
    eps: least value of the divisor (1e-6 in the authors' code).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        reweight: bool = True,
        scale_length: int | None = None,
        eps: float = 1e-6,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        least = self.max_length
        allowed = scale_length is None or scale_length >= least
        require(allowed, "scale_length", scale_length, f"at least max_length={least}, or None for it")
        require(eps > 0, "eps", eps, "above 0, or a query without a positive feature divides by zero")
        self.reweight = reweight
        self.scale_length = least if scale_length is None else scale_length
        self.eps = eps

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Three products instead of one: Q and K themselves can be freed once their features are there.
        three = zip(self.input_projection.weight.chunk(3), self.input_projection.bias.chunk(3), strict=True)
        query, key, value = (split_heads(F.linear(x, *part), self.num_heads) for part in three)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        self.check_length(key.shape[2])
        query, key = self.features(query, None), self.features(key, mask)  # (b, h, n, 2 e)
        # A column of ones beside V turns the normaliser into one more column of the same products.
        extended = F.pad(value, (0, 1), value=1.0)  # (b, h, n, e + 1)
        mixed = query @ (key.transpose(-2, -1) @ extended)  # (b, h, n, e + 1)
        return self.normalise(mixed[..., :-1], mixed[..., -1:])

    def features(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(b, h, n, e) -> (b, h, n, 2 e): relu(x) cos beside relu(x) sin, 0 at padding."""
        real = None if mask is None else mask[:, None, :, None]
        phi: Tensor = _Features.apply(x, real, self.angles(x))  # type: ignore[no-untyped-call]
        return phi

    def angles(self, x: Tensor) -> Tensor | None:
        """pi i / (2 M) of the positions i = 0 .. n - 1, (n, 1), or None without the reweighting."""
        if not self.reweight:
            return None
        positions = torch.arange(x.shape[2], device=x.device, dtype=torch.float64)[:, None]
        return positions * (math.pi / (2 * self.scale_length))

    def normalise(self, weighted: Tensor, total: Tensor) -> Tensor:
        """Weighted sums of the values over sums of the weights, which are never negative."""
        return weighted / total.clamp(min=self.eps)

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        reweight: bool = True,
        **options: Any,
    ) -> Cost:
        """phi(K)^T V and phi(Q) times it, with the column of ones: 2 n f (e + 1) each, of f features."""
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        features = (2 if reweight else 1) * num_heads * head_dim
        columns = num_heads * (head_dim + 1)
        # Features in place of Q and K. V with its ones in place of V; the products, the divisor twice.
        kept = 2 * length * (features - num_heads * head_dim) + length * (columns + 2 * num_heads)
        kept += features * (head_dim + 1)
        return Cost(
            projections.flops + 4 * length * features * (head_dim + 1),
            projections.activation_bytes + 4 * kept,
        )


class _Features(torch.autograd.Function):
    """relu(x) cos(angle) beside relu(x) sin(angle); 0 at padding.

    Angles stay below pi / 2, where the cosine is positive: the first half of the result says where x
    was, so nothing else has to be kept for backward.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, real: Tensor | None, angles: Tensor | None) -> Tensor:
        width = x.shape[-1]
        if angles is None:
            phi = F.relu(x.clone(memory_format=torch.contiguous_format), inplace=True)
        else:
            cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)  # (n, 1)
            phi = x.new_empty(*x.shape[:-1], 2 * width)
            positive, turned = phi.chunk(2, dim=-1)
            positive.copy_(x).clamp_(min=0)
            turned.copy_(positive).mul_(sine)
            positive.mul_(cosine)
        if real is not None:
            phi.masked_fill_(~real, 0)
        ctx.save_for_backward(phi, angles)
        ctx.width = width
        return phi

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        phi, angles = ctx.saved_tensors
        width = ctx.width
        slope = grad[..., :width]
        if angles is not None:
            cosine, sine = angles.cos().to(grad.dtype), angles.sin().to(grad.dtype)
            slope = slope * cosine + grad[..., width:] * sine
        return slope * (phi[..., :width] > 0), None, None
