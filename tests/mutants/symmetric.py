"""Symmetric attention with one thing wrong."""

from __future__ import annotations

import torch.nn.functional as F
from mutants.common import HeadsSplitTheOtherWay, QueryForKey
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer, key_mask, split_heads


class SharedWithoutBias(MultiHeadMixer):
    """the shared projection has lost its bias; without it in the keys alone, softmax would not notice"""

    def project(self, x):
        query, _, value = super().project(x)
        bias = self.input_projection.bias.chunk(2)[0]
        query = query - bias.unflatten(0, (self.num_heads, 1, -1))
        return query, query, value


class KeysAreValues(MultiHeadMixer):
    """the projection that is shared is the values', as where keys and values are one"""

    def project(self, x):
        query, _, value = super().project(x)
        return query, value, value


class WeightsMadeSymmetric(MultiHeadMixer):
    """the weights after the softmax are made symmetric, where only the scores are"""

    def attend(self, query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / self.head_dim**0.5
        if mask is not None:
            scores = scores.masked_fill(~key_mask(mask), -1e300)
        weights = scores.softmax(-1)
        return (weights + weights.transpose(-2, -1)) / 2 @ value


class OwnTokenHidden(MultiHeadMixer):
    """a token does not see itself, as in other methods that share queries and keys"""

    def attend(self, query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / self.head_dim**0.5
        if mask is not None:
            scores = scores.masked_fill(~key_mask(mask), -1e300)
        scores = scores.diagonal_scatter(scores.diagonal(dim1=-2, dim2=-1) - 5e4, dim1=-2, dim2=-1)
        return F.softmax(scores, dim=-1) @ value


class HeadsOfTheProjectionMixed(MultiHeadMixer):
    """(e, h) for (h, e) in the one projection that queries and keys share"""

    def project(self, x):
        query, value = self.input_projection(x).chunk(2, dim=-1)
        query = query.unflatten(-1, (self.head_dim, self.num_heads)).permute(0, 3, 1, 2)
        return query, query, split_heads(value, self.num_heads)


MUTANTS = [
    Mutant(SharedWithoutBias),
    Mutant(KeysAreValues),
    Mutant(WeightsMadeSymmetric),
    Mutant(OwnTokenHidden),
    Mutant(HeadsOfTheProjectionMixed),
]
# Queries are keys, so that exchanging them is none; the other one counts on three projections.
EXEMPT = (QueryForKey, HeadsSplitTheOtherWay)
