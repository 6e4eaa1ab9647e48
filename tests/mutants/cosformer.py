"""cosFormer with one thing wrong."""

from __future__ import annotations

import torch
from mutants.common import NoScale, ScaleOfDim, WrongScale
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class ScaledToTheBatch(MultiHeadMixer):
    """M is the length of the batch, as in the authors' code"""

    def angles(self, x):
        return super().angles(x) * (self.scale_length / x.shape[2])


class TwiceTheAngle(MultiHeadMixer):
    """pi i / M for pi i / (2 M)"""

    def angles(self, x):
        return super().angles(x) * 2


class NoSine(MultiHeadMixer):
    """cos cos alone stands for the cosine of the difference"""

    def features(self, x, mask):
        phi = super().features(x, mask)
        return torch.where(torch.arange(phi.shape[-1]) < self.head_dim, phi, 0)


class SoftplusFeatures(MultiHeadMixer):
    """negative features leak through"""

    def features(self, x, mask):
        return super().features(torch.nn.functional.softplus(x), mask)


class DivisorSeesPads(MultiHeadMixer):
    """only the values are masked"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            value = value.masked_fill(~mask[:, None, :, None], 0)
        return super().attend(query, key, value, None)


class EpsAdded(MultiHeadMixer):
    """eps is added to the divisor instead of bounding it"""

    def normalise(self, weighted, total):
        return weighted / (total + self.eps)


# Weights are relative: a scale of the queries cancels, and so is no fault.
EXEMPT = (WrongScale, NoScale, ScaleOfDim)

MUTANTS = [
    Mutant(ScaledToTheBatch),
    Mutant(TwiceTheAngle),
    Mutant(NoSine),
    Mutant(SoftplusFeatures),
    Mutant(DivisorSeesPads),
    Mutant(EpsAdded, {"eps": 5.0}),
]
