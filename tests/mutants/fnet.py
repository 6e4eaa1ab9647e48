"""FNet with one thing wrong."""

from __future__ import annotations

import torch
from mutants.fault import Mutant

from lra_bench.mixer import TokenMixer


class OnlyAlongTheSequence(TokenMixer):
    """no transform of the channels"""

    def transform(self, x):
        return torch.fft.fft(x, dim=1).real


class RealPartTooEarly(TokenMixer):
    """the real part is taken after the first transform too, so that the product of sines is lost"""

    def transform(self, x):
        return torch.fft.fft(torch.fft.fft(x, dim=2).real, dim=1).real


class Magnitude(TokenMixer):
    """the absolute value for the real part"""

    def transform(self, x):
        return torch.fft.fft2(x, dim=(1, 2)).abs()


class AcrossTheBatch(TokenMixer):
    """transforms over all dimensions, the batch with them"""

    def transform(self, x):
        return torch.fft.fftn(x).real


class Scaled(TokenMixer):
    """divided by sqrt(n), which the paper does not do"""

    def transform(self, x):
        return super().transform(x) / x.shape[1] ** 0.5


class MirrorWithoutTheRow(TokenMixer):
    """mirrored channels come from frequency k, not from -k"""

    def transform(self, x):
        lower = torch.fft.rfft2(x, dim=(1, 2)).real
        upper = lower[..., 1 : (x.shape[2] - 1) // 2 + 1].flip(2)
        return torch.cat([lower, upper], dim=2)


MUTANTS = [
    Mutant(fault)
    for fault in (
        OnlyAlongTheSequence,
        RealPartTooEarly,
        Magnitude,
        AcrossTheBatch,
        Scaled,
        MirrorWithoutTheRow,
    )
]
