"""Synthesizer with one thing wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mutants.fault import Mutant

from lra_bench.mixer import TokenMixer


class PadsInTheSoftmax(TokenMixer):
    """logits of padding are learned too, and nothing masks them"""

    def forward(self, x, mask=None):
        return super().forward(x, None)


class OnlyValuesMasked(TokenMixer):
    """pads stay in the softmax's divisor"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            value = value.masked_fill(~mask[:, None, :, None], 0)
        return super().attend(query, key, value, None)


class ScrambledHeads(TokenMixer):
    """logits (n, h) are read as (h, n), the fault of the 2020 release's dense mode"""

    def attend(self, query, key, value, mask):
        scrambled = query.transpose(1, 2).reshape(query.shape)
        return super().attend(scrambled, key, value, mask)


class ScaledLogits(TokenMixer):
    """1 / sqrt(e), which belongs to dot products only"""

    def attend(self, query, key, value, mask):
        return super().attend(query / self.head_dim**0.5, key, value, mask)


class LastPositions(TokenMixer):
    """a short input takes the last rows of R_1, not the first"""

    def random_factors(self, x):
        first, second = super().random_factors(x)
        shifted = F.pad(self.R1[-x.shape[1] :], (0, first.shape[-1] - self.rank))
        return shifted.transpose(0, 1).expand_as(first), second


class NoRelu(TokenMixer):
    """the two layers of the dense mode without what lies between them"""

    def attend_dense(self, x, mask):
        hidden = self.project(x, self.hidden_projection, extra=1.0)
        keys = torch.cat([self.W2, self.b2[..., None]], dim=-1)[:, : x.shape[1]]
        value = self.project(x, self.value_projection, extra=0.0)
        return self.attend(hidden, keys.expand(x.shape[0], -1, -1, -1), value, mask)[..., :-1]


class BothTiled(TokenMixer):
    """A and B repeat with their own periods, so that far positions share a logit"""

    def factorized_logits(self, x):
        length = x.shape[1]
        hidden = self.project(x, self.hidden_projection).relu()
        A = hidden @ self.WA.transpose(1, 2) + self.bA[:, None]
        B = hidden @ self.WB.transpose(1, 2) + self.bB[:, None]
        position = torch.arange(length)
        return A[..., position % A.shape[-1]] * B[..., position % B.shape[-1]]


class SumForMixture(TokenMixer):
    """random logits are added to the dot product, without weights that sum to one"""

    def logits(self, x):
        return 2 * super().logits(x)  # the weights start at one half


class TransposedRandom(TokenMixer):
    """keys' rows and queries' columns exchanged"""

    def logits(self, x):
        return super().logits(x).transpose(-2, -1)


class RandomPadsSeen(TokenMixer):
    """written-out logits are not masked"""

    def weigh(self, logits, value, mask):
        return super().weigh(logits, value, None)


class MaskOneTooMany(TokenMixer):
    """the first pad counts as real"""

    def forward(self, x, mask=None):
        return super().forward(x, None if mask is None else mask | mask.roll(1, dims=1))


MUTANTS = [
    Mutant(PadsInTheSoftmax),
    Mutant(PadsInTheSoftmax, {"mode": "mixture"}),
    Mutant(OnlyValuesMasked),
    Mutant(ScrambledHeads, {"mode": "dense"}),
    Mutant(ScaledLogits),
    Mutant(ScaledLogits, {"mode": "dense"}),
    Mutant(LastPositions),
    Mutant(NoRelu, {"mode": "dense"}),
    Mutant(BothTiled, {"mode": "factorized_dense", "factor_size": 5}),
    Mutant(SumForMixture, {"mode": "mixture"}),
    Mutant(TransposedRandom, {"mode": "random"}),
    Mutant(RandomPadsSeen, {"mode": "random"}),
    Mutant(RandomPadsSeen, {"mode": "factorized_dense", "factor_size": 5}),
    Mutant(MaskOneTooMany),
    Mutant(MaskOneTooMany, {"mode": "dense"}),
]
