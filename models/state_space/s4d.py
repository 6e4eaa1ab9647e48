"""S4D: each channel through a diagonal state space model, in both directions, as one convolution."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, TokenMixer
from lra_bench.models.state_space.s4d_kernel import (
    Discretization,
    Initialization,
    S4DKernel,
    split_length,
)

Activation = Literal["gelu", "none"]


class S4D(TokenMixer):
    """x_k = a x_(k-1) + B u_k, y_k = 2 Re(C x_k) + D u_k, for every channel and along both directions.

    On the Parameterization and Initialization of Diagonal State Space Models. Gu, Gupta, Goel, Re,
    2022, arXiv 2206.11893. a and B are A = diag(A_n) and ones, discretised with a learned step dt. Heads
    mean nothing to it, and it has no attention weights to drop. Then GELU, and a linear layer with a gated
    linear unit, which are the only ones to mix channels. Defaults are those of the authors' code
    (github.com/state-spaces/s4, models/s4/s4d.py) and, for both directions, of its experiments on Long
    Range Arena.

    state_size: N, the states of a channel: N / 2 conjugate pairs.
    init: of A. "lin" is S4D-Lin, A_n = -1/2 + i pi n; "inv" is S4D-Inv,
        A_n = -1/2 + i N / pi (N / (2n + 1) - 1).
    dt_min, dt_max: between them the steps are drawn, their logarithms uniformly.
    discretization: "zoh", zero-order hold, or "bilinear".
    bidirectional: adds the same model run from the last token to the first, with a C of its own.
    activation: "gelu", or "none", after the convolution.
    gated: the output is W1 y * sigmoid(W2 y); without, W1 y.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        state_size: int = 64,
        init: Initialization = "lin",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        discretization: Discretization = "zoh",
        bidirectional: bool = True,
        activation: Activation = "gelu",
        gated: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        pairs = state_size >= 2 and state_size % 2 == 0
        require(pairs, "state_size", state_size, "an even number, at least 2: states come in conjugate pairs")
        require(init in ("lin", "inv"), "init", init, "'lin' or 'inv'")
        require(dt_min > 0, "dt_min", dt_min, "above 0")
        require(dt_max >= dt_min, "dt_max", dt_max, f"at least dt_min={dt_min}")
        known = ("zoh", "bilinear")
        require(discretization in known, "discretization", discretization, "'zoh' or 'bilinear'")
        require(activation in ("gelu", "none"), "activation", activation, "'gelu' or 'none'")
        self.bidirectional = bidirectional
        self.activation = activation
        self.gated = gated
        self.kernel = S4DKernel(
            dim,
            1 + bidirectional,
            state_size=state_size,
            init=init,
            dt_min=dt_min,
            dt_max=dt_max,
            discretization=discretization,
        )
        self.D = nn.Parameter(torch.randn(dim))
        self.output_projection = nn.Linear(dim, (1 + gated) * dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0)
        y = self.convolve(x)
        if self.activation == "gelu":
            y = F.gelu(y)
        return self.mix_channels(y)

    def convolve(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d): all tokens that a direction has come by, and the token itself times D."""
        length = x.shape[1]
        size = self.transform_length(length)
        kernel = self.two_sided(self.kernels(length), size)  # (d, size)
        # In float32 at least: there are no complex numbers in bfloat16.
        y: Tensor = _Convolution.apply(x.to(kernel.dtype), kernel)  # type: ignore[no-untyped-call]
        return y.to(x.dtype)

    def kernels(self, length: int) -> Tensor:
        """(directions, d, n), at lags 0 to n - 1"""
        kernels: Tensor = self.kernel(length)
        return kernels

    def two_sided(self, kernels: Tensor, size: int) -> Tensor:
        """(directions, d, n) -> (d, size): lags 0, 1, ... from the left, -1, -2, ... from the right end."""
        # D is one more number at lag 0.
        own = kernels[..., :1].sum(dim=0) + self.D.to(kernels.dtype)[:, None]
        if not self.bidirectional:
            return F.pad(torch.cat([own, kernels[0, :, 1:]], dim=1), (0, size - kernels.shape[2]))
        _, dim, length = kernels.shape
        gap = kernels.new_zeros(dim, size - 2 * length + 1)
        return torch.cat([own, kernels[0, :, 1:], gap, kernels[1, :, 1:].flip(1)], dim=1)

    @staticmethod
    def transform_length(length: int) -> int:
        """At least 2 n - 1, so that nothing wraps around."""
        return fast_length(2 * length - 1)

    def mix_channels(self, y: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)"""
        mixed: Tensor = self.output_projection(y)
        return F.glu(mixed) if self.gated else mixed

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        state_size: int = 64,
        bidirectional: bool = True,
        activation: Activation = "gelu",
        gated: bool = True,
        **options: Any,
    ) -> Cost:
        """Three transforms of M >= 2 n - 1 numbers a channel, 5/2 M log2 M each; kernels, 2 N each lag.

        Kept of a sequence: what goes into the convolution, the activation, the linear layer and the gate.
        """
        size = cls.transform_length(length)
        directions = 1 + bidirectional
        block, blocks = split_length(length, directions)
        kernels = 2 * dim * directions * blocks * block * state_size
        transforms = 3 * round(2.5 * size * math.log2(size) * dim)
        projection = 2 * length * dim * dim * (1 + gated)
        kept = length * dim * (2 + (activation == "gelu") + 2 * gated)
        return Cost(kernels + transforms + projection, 4 * kept)


class _Convolution(torch.autograd.Function):
    """Circular convolution along the sequence: (b, n, d), (d, m) -> (b, n, d), of which n <= m are kept.

    Written out because autograd would keep every spectrum and run complex transforms back where all
    results are real. The input's spectrum, twice its size, is computed again in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        size = kernel.shape[1]
        return _tokens(spectrum(x, size).mul_(torch.fft.rfft(kernel)), x.shape[1], size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = ctx.saved_tensors
        size = kernel.shape[1]
        gradient = spectrum(gradients[0], size)
        # A convolution's transpose is a correlation: the conjugate in place of the spectrum itself.
        of_kernel = (gradient * spectrum(x, size).conj()).sum(dim=0)
        of_x = _tokens(gradient * torch.fft.rfft(kernel).conj(), x.shape[1], size)
        return of_x, torch.fft.irfft(of_kernel, n=size)


def spectrum(x: Tensor, size: int) -> Tensor:
    """(b, n, d), filled up with zeros to `size` tokens -> (b, d, size // 2 + 1) complex"""
    transformed: Tensor = torch.fft.rfft(x.transpose(1, 2), n=size)
    return transformed


def _tokens(product: Tensor, length: int, size: int) -> Tensor:
    """(b, d, size // 2 + 1) complex -> (b, n, d), the first n of `size` tokens"""
    tokens: Tensor = torch.fft.irfft(product, n=size)[..., :length]  # (b, d, n)
    return tokens.transpose(1, 2).contiguous()


def fast_length(minimum: int) -> int:
    """The least number from `minimum` on that is 1, 3, 5, 9 or 15 times a power of two."""
    return min(odd << (-(-minimum // odd) - 1).bit_length() for odd in (1, 3, 5, 9, 15))
