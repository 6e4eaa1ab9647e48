"""Shatter with one thing wrong."""

from __future__ import annotations

import math

import torch
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class BeforeForAfter(MultiHeadMixer):
    """f_p(i - j) for f_p(j - i)"""

    def part_weights(self, length, device, dtype):
        return super().part_weights(length, device, dtype).flip(-1)


class SignOfTheDistanceLost(MultiHeadMixer):
    """f_p(|j - i|)"""

    def part_weights(self, length, device, dtype):
        table = super().part_weights(length, device, dtype)
        later = table[:, :length]  # distances n - 1 down to 0
        return torch.cat([later, later[:, :-1].flip(-1)], dim=1)


class PartsNextToEachOther(MultiHeadMixer):
    """one step of distance too far"""

    def part_weights(self, length, device, dtype):
        return super().part_weights(length + 1, device, dtype)[:, : 2 * length - 1]


class NotOneInSum(MultiHeadMixer):
    """the binomial coefficients are left out"""

    def part_weights(self, length, device, dtype):
        degree = self.num_parts - 1
        binomial = torch.tensor([math.comb(degree, p) for p in range(degree + 1)], device=device)
        return super().part_weights(length, device, dtype) / binomial.to(dtype)[:, None]


class LinearDistance(MultiHeadMixer):
    """the distance itself for its logarithm"""

    def part_weights(self, length, device, dtype):
        distance = torch.arange(length - 1, -length, -1, device=device).to(dtype)
        place = (1 + (distance / self.max_distance).clamp(-1, 1)) / 2
        degree = self.num_parts - 1
        return torch.stack(
            [math.comb(degree, p) * place**p * (1 - place) ** (degree - p) for p in range(degree + 1)]
        )


class PaddedLength(MultiHeadMixer):
    """the length of the padded row for that of the real tokens"""

    def key_bias(self, length, mask, device, dtype):
        bias = super().key_bias(length, mask, device, dtype)
        return bias if mask is None else bias.clamp(max=-math.log(length))


class UnscaledSigmoids(MultiHeadMixer):
    """no - log n"""

    def key_bias(self, length, mask, device, dtype):
        bias = super().key_bias(length, mask, device, dtype)
        return torch.where(bias.isinf(), bias, 0)


class PaddingScoresZero(MultiHeadMixer):
    """a score of zero at padding, where the sigmoid is to be zero"""

    def key_bias(self, length, mask, device, dtype):
        bias = super().key_bias(length, mask, device, dtype)
        return bias if mask is None else bias.clamp(min=float(bias.amax()))


class SameValuesForAllParts(MultiHeadMixer):
    """the parts share the values of the first"""

    def attend(self, query, key, value, mask):
        width = value.shape[-1] // self.num_parts
        return super().attend(query, key, value[..., :width].repeat(1, 1, 1, self.num_parts), mask)


class HeadsScaleForOneHead(MultiHeadMixer):
    """1 / sqrt(e) of the heads that the one head replaces"""

    def attend(self, query, key, value, mask):
        factor = math.sqrt(query.shape[-1] / self.head_dim)
        return super().attend(query * factor, key, value, mask)


# Heads and keys as the common faults expect them.
OPTIONS = {"single_head": False, "key_projection": True, "num_parts": 2}

MUTANTS = [
    Mutant(fault, {"max_distance": 40})
    for fault in (
        BeforeForAfter,
        SignOfTheDistanceLost,
        PartsNextToEachOther,
        NotOneInSum,
        LinearDistance,
        PaddedLength,
        UnscaledSigmoids,
        PaddingScoresZero,
        SameValuesForAllParts,
        HeadsScaleForOneHead,
    )
]
