"""LSH attention with one thing wrong."""

from __future__ import annotations

import torch
from mutants.common import HeadsSplitTheOtherWay
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer

OPTIONS = {"num_hashes": 3, "chunk_size": 5, "num_buckets": 6}


class RepeatsCounted(MultiHeadMixer):
    """a pair counts once in each round that sees it"""

    def repeats(self, filled, windows, place):
        return torch.ones_like(super().repeats(filled, windows, place))


class RoundsAveraged(MultiHeadMixer):
    """the rounds' own softmaxes are averaged"""

    def join(self, mixed, total, shift):
        return (mixed / total).mean(dim=2)


class HalfTheHash(MultiHeadMixer):
    """argmax of qR without -qR"""

    def hash(self, query):
        bucket = super().hash(query)
        return torch.where(bucket >= self.factors[0] // 2, bucket - self.factors[0] // 2, bucket)


class PaddingSortedIn(MultiHeadMixer):
    """padding is sorted among the tokens"""

    def sort(self, bucket, mask):
        return super().sort(bucket, None)


class NoLookBack(MultiHeadMixer):
    """a chunk sees itself only"""

    def _seen(self, length, chunks, mask, device):
        seen = super()._seen(length, chunks, mask, device).clone()
        seen[..., : self.chunk_size] = False
        return seen


class LatestFirst(MultiHeadMixer):
    """within a bucket, the last position comes first"""

    def sort(self, bucket, mask):
        order = super().sort(bucket.flip(-1), None if mask is None else mask.flip(-1))
        return bucket.shape[-1] - 1 - order


class SelfSeen(MultiHeadMixer):
    """a token attends to itself like to any other, as in the 2020 release"""

    def attend(self, query, key, value, mask):
        self.exclude_self = False
        mixed = super().attend(query, key, value, mask)
        self.exclude_self = True
        return mixed


class KeysOfAnyLength(MultiHeadMixer):
    """keys aren't normalised, as in the 2020 release"""

    def project(self, x):
        query, _, value = super().project(x)
        return query, query, value


class ScoresMultiplied(MultiHeadMixer):
    """sqrt(e) for 1 / sqrt(e), as in the 2020 release"""

    def attend(self, query, key, value, mask):
        return super().attend(query * self.head_dim, key, value, mask)


class HeadsSplitWrong(MultiHeadMixer):
    """(e, h) for (h, e)"""

    def project(self, x):
        query, value = (
            part.unflatten(-1, (self.head_dim, self.num_heads)).permute(0, 3, 1, 2)
            for part in self.input_projection(x).chunk(2, dim=-1)
        )
        return query, torch.nn.functional.normalize(query, dim=-1), value


EXEMPT = (HeadsSplitTheOtherWay,)  # it takes three projections apart; HeadsSplitWrong does it for two

MUTANTS = [
    Mutant(fault, OPTIONS)
    for fault in (
        RepeatsCounted,
        RoundsAveraged,
        HalfTheHash,
        PaddingSortedIn,
        NoLookBack,
        LatestFirst,
        SelfSeen,
        KeysOfAnyLength,
        ScoresMultiplied,
        HeadsSplitWrong,
    )
]
