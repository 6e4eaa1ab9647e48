"""Compressive Transformer with one thing wrong in what it computes; its losses are in its own tests."""

from __future__ import annotations

from mutants import common
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class StillInMemory(MultiHeadMixer):
    """the newest slot is of tokens that the memory still holds"""

    def compress(self, x):
        return super().compress(x).roll(-1, dims=1)


class EmptySlotsSeen(MultiHeadMixer):
    """before the first slot lie zeros that take part in the softmax"""

    def seen(self, query, mask):
        found = super().seen(query, mask)
        visible = self.num_visible(query.shape[2])
        if found is None or not visible:
            return found
        found = found.clone()
        found[..., : min(visible, self.compressed_length)] = True
        return found


class StridedChunks(MultiHeadMixer):
    """a slot is of every n / c-th token, not of c that follow each other"""

    def compress(self, x):
        return super().compress(x.unflatten(1, (self.compression_rate, -1)).transpose(1, 2).flatten(1, 2))


class KernelBackwards(MultiHeadMixer):
    """the kernel's first tap is for the newest token"""

    def compress(self, x):
        return super().compress(x.unflatten(1, (-1, self.compression_rate)).flip(2).flatten(1, 2))


class OldestFirst(MultiHeadMixer):
    """the compressed memory keeps what came first and forgets what comes"""

    def parts(self, x, length):
        found = super().parts(x, length)
        if len(found) < 3:
            return found
        axis = self.scores.axis
        count, size = found[0].shape[axis], found[0].shape[axis + 1]
        first = min(count - 1, (size + self.memory_length // self.compression_rate) // 2)
        older = found[0].clone()
        older.narrow(axis, first, count - first).copy_(found[0].narrow(axis, first, 1))
        return [older, *found[1:]]


class NewestFirst(MultiHeadMixer):
    """slots in the wrong order, so that their distances are wrong"""

    def parts(self, x, length):
        found = super().parts(x, length)
        return [found[0].flip(self.scores.axis + 1), *found[1:]] if self.num_visible(length) else found


OPTIONS = {"segment_length": 4, "memory_length": 4, "compressed_length": 3, "compression_rate": 2}

EXEMPT = (common.QueryForKey, common.HeadsSplitTheOtherWay)
"""Keys are more than queries, and come from slots too: `transformer_xl` has the first, below is the other."""

MUTANTS = [
    *(
        Mutant(fault, OPTIONS)
        for fault in (
            StillInMemory,
            EmptySlotsSeen,
            StridedChunks,
            KernelBackwards,
            OldestFirst,
            NewestFirst,
        )
    ),
    Mutant(common.HeadsSplitTheOtherWay, {**OPTIONS, "compressed_length": 0}),
]
