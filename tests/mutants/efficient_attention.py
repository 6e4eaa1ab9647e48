"""Efficient attention with one thing wrong."""

from __future__ import annotations

import math

import torch
from mutants.fault import Mutant

from lra_bench.mixer import TokenMixer


class KeysOverFeatures(TokenMixer):
    """both softmaxes run over the features"""

    def normalise_key(self, key, mask):
        key = self.normalise_query(key)
        return key if mask is None else key.masked_fill(~mask[:, :, None], 0)


class QueriesOverSequence(TokenMixer):
    """both softmaxes run over the sequence"""

    def normalise_query(self, query):
        return query.softmax(dim=1)


class QueriesOverAllHeads(TokenMixer):
    """one softmax over the features of all heads"""

    def normalise_query(self, query):
        return query.softmax(dim=-1)


class ScaledQueries(TokenMixer):
    """a factor 1 / sqrt(e) after the softmax, as linear-attention-transformer has"""

    def normalise_query(self, query):
        return super().normalise_query(query) / math.sqrt(self.head_dim)


class ScaledLogits(TokenMixer):
    """1 / sqrt(e) before the softmax, which belongs to dot products"""

    def normalise_query(self, query):
        return super().normalise_query(query / math.sqrt(self.head_dim))


class NoMask(TokenMixer):
    """padding takes part"""

    def normalise_key(self, key, mask):
        return super().normalise_key(key, None)


class KeysZeroedBeforeSoftmax(TokenMixer):
    """pads get exp(0)"""

    def normalise_key(self, key, mask):
        if mask is not None:
            key = key.masked_fill(~mask[:, :, None], 0)
        return super().normalise_key(key, None)


class OnlyValuesMasked(TokenMixer):
    """pads stay in the softmax's divisor"""

    def normalise_key(self, key, mask):
        weights = super().normalise_key(key, None)
        return weights if mask is None else weights.masked_fill(~mask[:, :, None], 0)


class MaskOneTooMany(TokenMixer):
    """the first pad counts as real"""

    def normalise_key(self, key, mask):
        return super().normalise_key(key, None if mask is None else mask | mask.roll(1, dims=1))


class MaskOneTooFew(TokenMixer):
    """the last real token counts as a pad"""

    def normalise_key(self, key, mask):
        if mask is not None:
            shorter = mask & mask.roll(-1, dims=1)
            mask = torch.where(shorter.any(dim=1, keepdim=True), shorter, mask)
        return super().normalise_key(key, mask)


class HeadsMixedUp(TokenMixer):
    """values of the neighbouring head"""

    def context(self, gathered, weight, bias):
        return super().context(gathered, weight.roll(self.head_dim, 0), bias.roll(self.head_dim))


class NoBias(TokenMixer):
    """the values' bias gets lost"""

    def context(self, gathered, weight, bias):
        return super().context(gathered, weight, torch.zeros_like(bias))


class ContextTransposed(TokenMixer):
    """features of keys and of values exchanged"""

    def project_context(self, context):
        square = context.unflatten(1, (-1, self.head_dim))
        return super().project_context(square.transpose(-2, -1).flatten(1, 2))


MUTANTS = [
    Mutant(fault)
    for fault in (
        KeysOverFeatures,
        QueriesOverSequence,
        QueriesOverAllHeads,
        ScaledQueries,
        ScaledLogits,
        NoMask,
        KeysZeroedBeforeSoftmax,
        OnlyValuesMasked,
        MaskOneTooMany,
        MaskOneTooFew,
        HeadsMixedUp,
        NoBias,
        ContextTransposed,
    )
]
