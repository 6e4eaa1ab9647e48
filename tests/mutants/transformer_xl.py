"""Transformer-XL with one thing wrong."""

from __future__ import annotations

import torch
from mutants import common
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer
from lra_bench.models.memory.relative_attention import RelativeScores


class EmptyMemorySeen(MultiHeadMixer):
    """before the first token lie zeros that take part in the softmax"""

    def seen(self, query, mask):
        found = super().seen(query, mask)
        if found is None or not self.reach(query.shape[2]):
            return found
        found = found.clone()
        found[:, 0] |= True
        return found


class MemoryOneEarlier(MultiHeadMixer):
    """the memory ends one token before the segment"""

    def project(self, x):
        return rolled(super().project(x), 1)


class NextSegment(MultiHeadMixer):
    """memory holds what comes after, where there is any"""

    def project(self, x):
        return rolled(super().project(x), -self.segment_length)


class KeysAreQueries(MultiHeadMixer):
    """roles of query and key exchanged"""

    def project(self, x):
        query, key, value = super().project(x)
        own = key[:, :, : query.shape[2]]
        return own, query.repeat(1, 1, key.shape[2] // query.shape[2], 1), value


def rolled(parts, steps):
    """With the part of key and value that is for the memory moved along the sequence."""
    query, key, value = parts
    length = query.shape[2]
    moved = (torch.cat([x[:, :, :length], x[:, :, length:].roll(steps, 2)], dim=2) for x in (key, value))
    return query, *moved


class Scored(MultiHeadMixer):
    """Base: `self.scores` becomes an instance of `other` with the same parameters."""

    other: type[RelativeScores]

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.scores.__class__ = self.other


class SignExchanged(RelativeScores):
    def positions(self, segment, seen):
        # Of distances w - 1 to -w, those that are -(k - 1) to s, in this order.
        wide = max(segment, seen) + 1
        return super().positions(wide, wide).flip(-1)[..., wide - seen + 1 : wide + segment + 1]


class OneSided(RelativeScores):
    def positions(self, segment, seen):
        found = super().positions(segment, seen)
        ahead = torch.arange(found.shape[-1], device=found.device) >= seen
        return found.masked_fill(ahead, 0)


class OnlyLeft(RelativeScores):
    def positions(self, segment, seen):
        return super().positions(segment, seen).roll(1, dims=-1)


class ScaledLater(RelativeScores):
    def positions(self, segment, seen):
        return super().positions(segment, seen) * self.content_bias.shape[1] ** 0.5


class SwappedBiases(RelativeScores):
    def forward(self, query, key, value, seen, dropout):
        self.content_bias, self.position_bias = self.position_bias, self.content_bias
        try:
            return super().forward(query, key, value, seen, dropout)
        finally:
            self.content_bias, self.position_bias = self.position_bias, self.content_bias


class DistanceBackwards(Scored):
    """R_{j-i} for R_{i-j}"""

    other = SignExchanged


class NoDistanceAhead(Scored):
    """tokens ahead of the query within its segment get no position, as a causal shift leaves them"""

    other = OneSided


class ShiftedByOne(Scored):
    """every distance is one off"""

    other = OnlyLeft


class PositionsUnscaled(Scored):
    """only the content is divided by sqrt(e)"""

    other = ScaledLater


class BiasesExchanged(Scored):
    """v with the content and u with the positions"""

    other = SwappedBiases


EXEMPT = (common.QueryForKey,)
"""Keys are twice as many as queries here; `KeysAreQueries` is the same fault."""

OPTIONS = {"segment_length": 5, "memory_length": 7}

MUTANTS = [
    Mutant(fault, OPTIONS)
    for fault in (
        EmptyMemorySeen,
        MemoryOneEarlier,
        NextSegment,
        KeysAreQueries,
        DistanceBackwards,
        NoDistanceAhead,
        ShiftedByOne,
        PositionsUnscaled,
        BiasesExchanged,
    )
]
