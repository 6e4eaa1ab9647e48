"""Local attention with one thing wrong."""

from __future__ import annotations

from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class Strided(MultiHeadMixer):
    """every n / w-th token forms a group, the fault of the 2020 release"""

    def _blocks(self, x):
        batch, heads, _, width = x.shape
        groups = x.transpose(1, 2).reshape(batch, self.block_size, -1, heads, width)
        return groups.transpose(1, 2).flatten(0, 1).transpose(1, 2)

    def attend(self, query, key, value, mask):
        mixed = super().attend(query, key, value, mask)  # in groups' order
        batch, heads, _, width = mixed.shape
        groups = mixed.transpose(1, 2).reshape(batch, -1, self.block_size, heads, width)
        return groups.transpose(1, 2).flatten(1, 2).transpose(1, 2)


class BlocksShifted(MultiHeadMixer):
    """blocks begin one token late"""

    def attend(self, query, key, value, mask):
        shifted = (part.roll(-1, dims=2) for part in (query, key, value))
        mask = None if mask is None else mask.roll(-1, dims=1)
        return super().attend(*shifted, mask).roll(1, dims=2)


class InnerPaddingSeen(MultiHeadMixer):
    """what fills up the last block is attended to"""

    def attend(self, query, key, value, mask):
        length = mask.shape[1] if mask is not None else 0
        if mask is not None and not mask[:, length - 1].any():
            mask = mask | mask[:, : length - length % self.block_size or None].any()
        return super().attend(query, key, value, mask)


class OneSided(MultiHeadMixer):
    """looks back twice as far and not ahead"""

    def _windows(self, x):
        if not self.look_around:
            return super()._windows(x)
        return super()._windows(x.roll(self.look_around * self.block_size, dims=2))


OPTIONS = {"block_size": 5}

MUTANTS = [
    Mutant(Strided, {"block_size": 5}),
    Mutant(BlocksShifted, {"block_size": 5}),
    Mutant(InnerPaddingSeen, {"block_size": 5}),
    Mutant(OneSided, {"block_size": 5, "look_around": 1}),
]
