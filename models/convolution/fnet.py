"""FNet: the real part of a Fourier transform over tokens and channels, in place of attention."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, TokenMixer

Scaling = Literal["none", "orthonormal"]


class FNet(TokenMixer):
    """y = Re(F_n(F_d(x))), F_n along the sequence and F_d along the channels. It has no parameters.

    FNet: Mixing Tokens with Fourier Transforms. Lee-Thorp, Ainslie, Eckstein, Ontanon, 2021,
    arXiv 2105.03824, the Fourier sublayer. Heads mean nothing to it, and there are no weights to drop.

    Padding is set to zero first, so that what stands there never matters. How much of it there is does:
    frequencies are fractions of the padded length. In bfloat16 the transform is taken in float32.

    scaling: "none" as in the paper, where each number of the result is a sum of n d numbers;
        "orthonormal" divides it by sqrt(n d), so that the result is about as large as the input.
    """

    def __init__(self, dim: int, num_heads: int, *, scaling: Scaling = "none", **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        require(scaling in ("none", "orthonormal"), "scaling", scaling, "'none' or 'orthonormal'")
        self.scaling = scaling

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0)
        # There is no transform of half-precision numbers on the CPU, and no such complex ones anywhere.
        wide = x if x.dtype == torch.float64 else x.float()
        return self.transform(wide).to(x.dtype)

    def transform(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)"""
        factor = 1 / math.sqrt(x.shape[1] * x.shape[2]) if self.scaling == "orthonormal" else 1.0
        mixed: Tensor = _RealFourier.apply(x, factor)  # type: ignore[no-untyped-call]
        return mixed

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        """A transform of N = n d real numbers counts as 5/2 N log2 N. Being linear, it keeps nothing."""
        size = length * dim
        return Cost(round(2.5 * size * math.log2(size)), 0)


class _RealFourier(torch.autograd.Function):
    """factor * Re(F_n(F_d(x))) = factor * sum over m, c of x[m, c] cos(2 pi (k m / n + j c / d)).

    As a matrix from (m, c) to (k, j) it is symmetric: it is its own backward pass, with nothing kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return real_fourier(x).mul_(factor) if factor != 1.0 else real_fourier(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        mixed: Tensor = _RealFourier.apply(gradients[0], ctx.factor)  # type: ignore[no-untyped-call]
        return mixed, None


def real_fourier(x: Tensor) -> Tensor:
    """Re(F_n(F_d(x))) of real x, (b, n, d) -> (b, n, d), from half of the frequencies.

    The transform of real numbers at (-k, -j) is the conjugate of that at (k, j), so its real part is the
    same at both: columns above d / 2 are mirrored from those below.
    """
    dim = x.shape[2]
    half, mirrored = dim // 2 + 1, (dim - 1) // 2
    lower = torch.fft.rfft2(x, dim=(1, 2)).real  # (b, n, d // 2 + 1)
    mixed = torch.empty_like(x, memory_format=torch.contiguous_format)
    mixed[..., :half] = lower
    upper = lower[..., 1 : mirrored + 1].flip(1, 2)  # row r is that of frequency n - 1 - r
    mixed[:, 1:, half:] = upper[:, :-1]
    mixed[:, :1, half:] = upper[:, -1:]
    return mixed
