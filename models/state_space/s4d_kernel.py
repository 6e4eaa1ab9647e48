"""The convolution kernel of a diagonal state space model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Initialization = Literal["lin", "inv"]
Discretization = Literal["zoh", "bilinear"]


class S4DKernel(nn.Module):
    """K[l] = 2 Re sum_n C_n B_n a_n^l for l = 0 .. length - 1. length -> (directions, d, length)

    Each channel has its own. There a is exp(dt A), and B is (exp(dt A) - 1) / A (zero-order hold); or a is
    (1 + dt A / 2) / (1 - dt A / 2), and B is dt / (1 - dt A / 2) (bilinear). States come in conjugate
    pairs; one of each pair is held, which is what the factor 2 stands for. Directions share A and dt and
    have their own C, as in the authors' code.

    The parameters stay in float32 when the module is cast to a shorter type: the phase dt A l of a^l has
    to be right to a fraction of a radian where it has turned hundreds of times.
    """

    def __init__(
        self,
        dim: int,
        directions: int,
        *,
        state_size: int,
        init: Initialization,
        dt_min: float,
        dt_max: float,
        discretization: Discretization,
    ) -> None:
        super().__init__()
        self.discretization = discretization
        pairs = state_size // 2
        self.log_dt = nn.Parameter(torch.empty(dim).uniform_(math.log(dt_min), math.log(dt_max)))
        self.log_A_real = nn.Parameter(torch.full((dim, pairs), math.log(0.5)))
        self.A_imag = nn.Parameter(frequencies(init, state_size).expand(dim, -1).clone())
        # Standard complex normal numbers: both parts have variance 1/2.
        self.C = nn.Parameter(torch.empty(directions, dim, pairs, 2).normal_(std=math.sqrt(0.5)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> S4DKernel:
        def in_full(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype in (torch.bfloat16, torch.float16) else moved

        applied: S4DKernel = super()._apply(in_full, recurse)  # type: ignore[no-untyped-call]
        return applied

    def forward(self, length: int) -> Tensor:
        device_type = "cpu" if self.log_dt.device.type == "meta" else self.log_dt.device.type
        with torch.autocast(device_type, enabled=False):
            log_decay, angle, gain = self.discretize()
            weight = 2 * torch.view_as_complex(self.C) * gain  # (directions, d, N / 2)
            return vandermonde(weight, log_decay, angle, length)

    def discretize(self) -> tuple[Tensor, Tensor, Tensor]:
        """log |a|, arg a and B, (d, N / 2) each: two real, one complex."""
        dt = self.log_dt.exp()[:, None]
        A_real = -self.log_A_real.exp()  # below zero, so that no state grows
        real, imag = dt * A_real, dt * self.A_imag
        if self.discretization == "zoh":
            # exp(z) - 1 itself would lose what digits of it there are for a small z.
            gain = torch.expm1(torch.complex(real, imag)) / torch.complex(A_real, self.A_imag)
            return real, imag, gain
        real, imag = real / 2, imag / 2
        shared = real.square() + imag.square()
        # log |1 + z| - log |1 - z| for z = dt A / 2
        log_decay = (torch.log1p(2 * real + shared) - torch.log1p(shared - 2 * real)) / 2
        angle = torch.atan2(imag, 1 + real) + torch.atan2(imag, 1 - real)
        return log_decay, angle, dt / torch.complex(1 - real, -imag)


def vandermonde(weight: Tensor, log_decay: Tensor, angle: Tensor, length: int) -> Tensor:
    """Re sum_n weight_n a_n^l, from two small tables of powers in place of one of N x length.

    With l = i + block j, a^l = a^i a^(block j): a sum over states of products of a row (i) and a column
    (j), a matrix product. Kept are N (block + length / block) powers a channel.

    weight: (c, d, N / 2) complex; log_decay, angle: (d, N / 2) real -> (c, d, length)
    """
    directions, dim, _ = weight.shape
    block, blocks = split_length(length, directions)
    steps = torch.arange(block, dtype=angle.dtype, device=angle.device)
    within = powers(log_decay, angle, steps)  # (d, N / 2, block)
    steps = block * torch.arange(blocks, dtype=angle.dtype, device=angle.device)
    between = weight[..., None] * powers(log_decay, angle, steps)  # (c, d, N / 2, blocks)
    # Re(x y) = Re x Re y - Im x Im y, the two sums as one over twice as many terms.
    left = torch.cat([between.real, -between.imag], dim=2)  # (c, d, N, blocks)
    right = torch.cat([within.real, within.imag], dim=1)  # (d, N, block)
    left = left.permute(1, 0, 3, 2).reshape(dim, directions * blocks, -1)
    kernels = torch.bmm(left, right).reshape(dim, directions, blocks * block)
    return kernels[..., :length].transpose(0, 1)


def powers(log_decay: Tensor, angle: Tensor, steps: Tensor) -> Tensor:
    """a^steps: (d, N / 2), (d, N / 2), (s,) -> (d, N / 2, s) complex"""
    return torch.polar((log_decay[..., None] * steps).exp(), angle[..., None] * steps)


def split_length(length: int, directions: int) -> tuple[int, int]:
    """(block, blocks) with block * blocks >= length: a power of two that makes both tables about as large."""
    block = 1 << round(math.log2(math.sqrt(directions * length)))
    return block, -(-length // block)


def frequencies(init: Initialization, state_size: int) -> Tensor:
    """(N / 2,) imaginary parts of A, one of each conjugate pair."""
    n = torch.arange(state_size // 2, dtype=torch.float32)
    if init == "lin":
        return math.pi * n
    return state_size / math.pi * (state_size / (2 * n + 1) - 1)
