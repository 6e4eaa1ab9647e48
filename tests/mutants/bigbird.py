"""BigBird with one thing wrong."""

from __future__ import annotations

import torch
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class RandomFromTheStartOnly(MultiHeadMixer):
    """random blocks among the first ones, as in the 2020 release"""

    def random(self, num_blocks, real):
        return super().random(num_blocks, real.clamp(max=8))


class RandomIsTheFirst(MultiHeadMixer):
    """the first block for every random one, as Hugging Face transformers has it in evaluation"""

    def random(self, num_blocks, real):
        chosen, counted = super().random(num_blocks, real)
        return chosen * 0, counted


class GlobalCountedTwice(MultiHeadMixer):
    """a global block near by or drawn is there twice"""

    def is_global(self, index, real):
        return torch.zeros_like(index, dtype=torch.bool) & (real > 0)


class NearCountedTwice(MultiHeadMixer):
    """a block near by is drawn too"""

    def random(self, num_blocks, real):
        near, self.window_blocks = self.window_blocks, 0
        drawn = super().random(num_blocks, real)
        self.window_blocks = near
        return drawn


class PaddingIsTheLastBlock(MultiHeadMixer):
    """the last block of the batch is the global one, and padding is drawn"""

    def plan(self, num_blocks, real):
        return super().plan(num_blocks, torch.full_like(real, num_blocks))


class AllHeadsAlike(MultiHeadMixer):
    """the first head's random blocks in all"""

    def random(self, num_blocks, real):
        return tuple(part[:, :1] for part in super().random(num_blocks, real))


class GlobalSeesAsOthers(MultiHeadMixer):
    """all see the global blocks, and they don't see all"""

    def put_edges(self, mixed, edges, last):
        return mixed


class GlobalSeenByNone(MultiHeadMixer):
    """the global blocks see all, and only what is near sees them"""

    def plan(self, num_blocks, real):
        kept, self.num_global_blocks = self.num_global_blocks, 0
        plan = super().plan(num_blocks, real)
        self.num_global_blocks = kept
        return plan


class OnlyFirstIsGlobal(MultiHeadMixer):
    """the last block is not"""

    def put_edges(self, mixed, edges, last):
        return torch.cat([edges[:, 0:1], mixed[:, 1:]], dim=1)


OPTIONS = {"block_size": 2}

MUTANTS = [
    Mutant(RandomFromTheStartOnly, {"block_size": 2}),
    Mutant(RandomIsTheFirst, {"block_size": 2}),
    Mutant(GlobalCountedTwice, {"block_size": 2, "num_random_blocks": 0}),
    Mutant(NearCountedTwice, {"block_size": 2}),
    Mutant(PaddingIsTheLastBlock, {"block_size": 2}),
    Mutant(AllHeadsAlike, {"block_size": 2}),
    Mutant(GlobalSeesAsOthers, {"block_size": 2}),
    Mutant(GlobalSeenByNone, {"block_size": 2}),
    Mutant(OnlyFirstIsGlobal, {"block_size": 2}),
]
