"""Symmetric attention with pairwise factors, with one thing wrong."""

from __future__ import annotations

from mutants.common import HeadsSplitTheOtherWay, QueryForKey
from mutants.fault import Mutant
from mutants.symmetric import HeadsOfTheProjectionMixed, SharedWithoutBias

from lra_bench.mixer import MultiHeadMixer

OPTIONS = {"factors": "normal"}


class FactorsMadeSymmetric(MultiHeadMixer):
    """(F + F^T) / 2 for F"""

    def _weighted(self, key):
        factors = self.pairwise_factors
        return key @ ((factors + factors.transpose(-2, -1)) / 2)


class FactorsTransposed(MultiHeadMixer):
    """F^T for F: a query's and a key's part exchanged"""

    def _weighted(self, key):
        return key @ self.pairwise_factors


class OneMatrixForAllHeads(MultiHeadMixer):
    """the first head's factors everywhere"""

    def _weighted(self, key):
        return key @ self.pairwise_factors[:1].transpose(-2, -1)


class OnlyTheDiagonal(MultiHeadMixer):
    """a weight per channel for a full matrix"""

    def _weighted(self, key):
        return key * self.pairwise_factors.diagonal(dim1=-2, dim2=-1)[:, None]


class FactorsOnBothSides(MultiHeadMixer):
    """(Q F^T) (Q F^T)^T, which is symmetric, for Q F Q^T"""

    def attend(self, query, key, value, mask):
        return super().attend(self._weighted(query), key, value, mask)


MUTANTS = [
    Mutant(fault, OPTIONS)
    for fault in (
        FactorsMadeSymmetric,
        FactorsTransposed,
        OneMatrixForAllHeads,
        OnlyTheDiagonal,
        FactorsOnBothSides,
        SharedWithoutBias,
        HeadsOfTheProjectionMixed,
    )
]
# Queries are keys, so that exchanging them is none; the other one counts on three projections.
EXEMPT = (QueryForKey, HeadsSplitTheOtherWay)
