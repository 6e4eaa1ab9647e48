"""Sparse Sinkhorn attention with one thing wrong."""

from __future__ import annotations

import torch
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer

OPTIONS = {"block_size": 4}


class SumsApart(MultiHeadMixer):
    """blocks and matrix are summed by themselves, the fault of the 2020 release: the sort has no effect"""

    def apply_sort(self, share, blocks):
        return torch.einsum("bhnl,xbhkwe->xbhnwe", share, blocks)


class Transposed(MultiHeadMixer):
    """S' for S"""

    def apply_sort(self, share, blocks):
        return super().apply_sort(share.transpose(-1, -2), blocks)


class ValuesAreKeys(MultiHeadMixer):
    """sorted values are made of keys, the fault of sinkhorn-transformer 0.11.4"""

    def apply_sort(self, share, blocks):
        return super().apply_sort(share, blocks[:1].expand_as(blocks).contiguous())


class NoSort(MultiHeadMixer):
    """each block gets itself"""

    def apply_sort(self, share, blocks):
        return blocks


class NoTemperature(MultiHeadMixer):
    """1 for the temperature"""

    def normalise(self, scores, mask):
        return super().normalise(scores * self.temperature, mask)


class RowsOnly(MultiHeadMixer):
    """a softmax over rows, the default of the 2020 release"""

    def normalise(self, scores, mask):
        share = super().normalise(scores, mask)
        return share / share.sum(dim=-1, keepdim=True)


class PaddedBlocksSorted(MultiHeadMixer):
    """blocks of padding take part in the normalisation"""

    def normalise(self, scores, mask):
        return super().normalise(scores, None)


class NoCompensation(MultiHeadMixer):
    """slots past the end of the last block mix in zero vectors"""

    def compensation(self, share, mask):
        return torch.ones_like(super().compensation(share, mask))


class PaddingSeen(MultiHeadMixer):
    """padded slots of the own block and of the sorted one are seen"""

    def visible(self, mask):
        return torch.ones_like(super().visible(mask))


class Strided(MultiHeadMixer):
    """every n / w-th token forms a block, the other fault of the 2020 release"""

    def attend(self, query, key, value, mask):
        def strided(x, dim):
            return x.unflatten(dim, (self.block_size, -1)).transpose(dim, dim + 1).flatten(dim, dim + 1)

        parts = (strided(part, 2) for part in (query, key, value))
        mixed = super().attend(*parts, None if mask is None else strided(mask, 1))
        return mixed.unflatten(2, (-1, self.block_size)).transpose(2, 3).flatten(2, 3)


MUTANTS = [
    Mutant(fault, OPTIONS)
    for fault in (
        SumsApart,
        Transposed,
        ValuesAreKeys,
        NoSort,
        NoTemperature,
        RowsOnly,
        PaddedBlocksSorted,
        NoCompensation,
        PaddingSeen,
        Strided,
    )
]
