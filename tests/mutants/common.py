"""Faults that any mixer with queries, keys and values can have."""

from __future__ import annotations

import math

import torch

from lra_bench.mixer import MultiHeadMixer


class WrongScale(MultiHeadMixer):
    """1 / e for 1 / sqrt(e)"""

    def attend(self, query, key, value, mask):
        return super().attend(query / math.sqrt(self.head_dim), key, value, mask)


class NoScale(MultiHeadMixer):
    """1 for 1 / sqrt(e)"""

    def attend(self, query, key, value, mask):
        return super().attend(query * math.sqrt(self.head_dim), key, value, mask)


class ScaleOfDim(MultiHeadMixer):
    """1 / sqrt(d) for 1 / sqrt(e)"""

    def attend(self, query, key, value, mask):
        return super().attend(query * math.sqrt(self.head_dim / self.dim), key, value, mask)


class NoMask(MultiHeadMixer):
    """padding takes part"""

    def attend(self, query, key, value, mask):
        return super().attend(query, key, value, None)


class MaskOneTooMany(MultiHeadMixer):
    """the first pad counts as real"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            mask = mask | mask.roll(1, dims=1)
        return super().attend(query, key, value, mask)


class MaskOneTooFew(MultiHeadMixer):
    """the last real token counts as a pad"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            # Rows of one token stay as they are: they would have nothing left.
            shorter = mask & mask.roll(-1, dims=1)
            mask = torch.where(shorter.any(dim=1, keepdim=True), shorter, mask)
        return super().attend(query, key, value, mask)


class HeadsMixedUp(MultiHeadMixer):
    """values of the neighbouring head"""

    def attend(self, query, key, value, mask):
        return super().attend(query, key, value.roll(1, dims=1), mask)


class HeadsSplitTheOtherWay(MultiHeadMixer):
    """(e, h) for (h, e)"""

    def project(self, x):
        parts = self.input_projection(x).chunk(3, dim=-1)
        return tuple(
            part.unflatten(-1, (self.head_dim, self.num_heads)).permute(0, 3, 1, 2) for part in parts
        )


class QueryForKey(MultiHeadMixer):
    """roles of query and key exchanged"""

    def attend(self, query, key, value, mask):
        return super().attend(key, query, value, mask)


MASKS = (NoMask, MaskOneTooMany, MaskOneTooFew)
HEADS = (HeadsMixedUp, HeadsSplitTheOtherWay, QueryForKey)
SCALES = (WrongScale, NoScale, ScaleOfDim)
