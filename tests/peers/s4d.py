"""No package has S4D. The peer is the model as its authors' code computes it without their extensions:
a full table of powers, N / 2 x d x n complex numbers, for the kernel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from peers.peer import Speed
from torch import Tensor, nn


class FullTable(nn.Module):
    """S4D-Lin with zero-order hold, GELU and a gated output, channels before tokens inside."""

    def __init__(self, dim: int, state_size: int, directions: int) -> None:
        super().__init__()
        pairs = state_size // 2
        self.log_dt = nn.Parameter(torch.rand(dim) * math.log(100) + math.log(0.001))
        self.log_A_real = nn.Parameter(torch.full((dim, pairs), math.log(0.5)))
        self.A_imag = nn.Parameter(math.pi * torch.arange(pairs).float().repeat(dim, 1))
        self.C = nn.Parameter(torch.randn(directions, dim, pairs, 2))
        self.D = nn.Parameter(torch.randn(dim))
        self.output = nn.Conv1d(dim, 2 * dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        u, length = x.transpose(1, 2), x.shape[1]
        A = -self.log_A_real.exp() + 1j * self.A_imag
        step = A * self.log_dt.exp()[:, None]  # (d, N / 2)
        table = torch.exp(step[..., None] * torch.arange(length))  # (d, N / 2, n)
        weight = torch.view_as_complex(self.C) * (torch.exp(step) - 1) / A
        kernels = 2 * torch.einsum("chn,hnl->chl", weight, table).real
        kernel = F.pad(kernels[0], (0, length))
        if len(kernels) == 2:
            kernel = kernel + F.pad(kernels[1].flip(-1), (length, 0))
        size = 2 * length
        spectrum = torch.fft.rfft(u, n=size) * torch.fft.rfft(kernel, n=size)
        y = torch.fft.irfft(spectrum, n=size)[..., :length] + u * self.D[:, None]
        return F.glu(self.output(F.gelu(y)), dim=1).transpose(1, 2)


PARITIES = {}

SPEEDS = [
    Speed("plain torch, full Vandermonde table", lambda n: FullTable(128, 64, 2)),
    Speed(
        "plain torch, full Vandermonde table",
        lambda n: FullTable(128, 64, 1),
        {"bidirectional": False},
    ),
]
