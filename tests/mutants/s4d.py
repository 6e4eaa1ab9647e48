"""S4D with one thing wrong."""

from __future__ import annotations

import torch
from mutants.fault import Mutant

from lra_bench.mixer import TokenMixer


class FactorTwoForgotten(TokenMixer):
    """the conjugate states are left out"""

    def kernels(self, length):
        return super().kernels(length) / 2


class OtherDiscretization(TokenMixer):
    """bilinear where zero-order hold is asked for"""

    def kernels(self, length):
        self.kernel.discretization = "bilinear"
        kernels = super().kernels(length)
        self.kernel.discretization = "zoh"  # the oracle reads it
        return kernels


class WrapsAround(TokenMixer):
    """a transform half as long as it has to be: the end reaches the beginning"""

    def two_sided(self, kernels, size):
        kernel = super().two_sided(kernels, size)
        length = kernels.shape[2]
        wrapped = kernel.clone()
        # What a token at i takes from i - l + n it would take from beyond the end.
        wrapped[:, 1:length] = kernel[:, 1:length] + kernel[:, size - length + 1 :]
        return wrapped


class BackwardOneLate(TokenMixer):
    """the backward kernel begins with the next token, as in the authors' code"""

    def two_sided(self, kernels, size):
        late = torch.cat([torch.zeros_like(kernels[1:, :, :1]), kernels[1:, :, :-1]], dim=2)
        return super().two_sided(torch.cat([kernels[:1], late]), size)


class DirectionsExchanged(TokenMixer):
    """the forward kernel looks ahead"""

    def two_sided(self, kernels, size):
        return super().two_sided(kernels.flip(0), size)


class NoSkip(TokenMixer):
    """D is forgotten"""

    def two_sided(self, kernels, size):
        kernel = super().two_sided(kernels, size)
        return torch.cat([kernel[:, :1] - self.D[:, None], kernel[:, 1:]], dim=1)


class PaddingConvolved(TokenMixer):
    """tokens at padding are not set to zero"""

    def forward(self, x, mask=None):
        return super().forward(x, None)


class GateAndValueExchanged(TokenMixer):
    """the sigmoid is on the first half"""

    def mix_channels(self, y):
        first, second = self.output_projection(y).chunk(2, dim=-1)
        return torch.sigmoid(first) * second


MUTANTS = [
    Mutant(fault)
    for fault in (
        FactorTwoForgotten,
        OtherDiscretization,
        WrapsAround,
        BackwardOneLate,
        DirectionsExchanged,
        NoSkip,
        PaddingConvolved,
        GateAndValueExchanged,
    )
]
