"""Sparse Transformer with one thing wrong."""

from __future__ import annotations

import torch
from mutants import common
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class CountedTwice(MultiHeadMixer):
    """a token of both sets counts twice in the softmax"""

    def _softmax(self, scores, seen):
        *near, far = seen
        blocks = far.shape[-1] // (1 if self.pattern == "strided" else self.num_summary)
        own = torch.eye(blocks, dtype=torch.bool)
        if self.pattern == "strided":
            own, of_blocks = own[:, None, None, None], 0  # (m, 1, 1, 1, m)
        else:
            own, of_blocks = own.repeat_interleave(self.num_summary, dim=1)[:, None], 2  # (m, 1, m c)
        real = far.any(dim=of_blocks, keepdim=True)
        return super()._softmax(scores, [*near, far | own & real])


class TwoSoftmaxes(MultiHeadMixer):
    """the sets are attended to one by one and averaged"""

    def _attend_merged(self, query, key, value, real):
        near = self._attend_near(query, key, value, real)
        return (near + self._attend_far(query, key, value, real)) / 2


class OneTokenTooWide(MultiHeadMixer):
    """|i - j| <= l for |i - j| < l in the near set"""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        shipped = type(self.keys)

        class Wide(shipped):
            def near_seen(self, real):
                seen = super().near_seen(real)
                exact = torch.arange(self.stride)
                if len(seen) > 1:
                    there = torch.nn.functional.pad(real, (0, 0, 1, 0))[:, :-1].transpose(0, 1)[
                        :, :, None, None
                    ]
                    seen[0] = seen[0] | (exact[:, None] == exact) & there
                return seen

        self.keys = Wide(self.stride, self.causal)


class FirstOfBlockToo(MultiHeadMixer):
    """the first token of a block is a summary as well, as in the 2020 release"""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.keys.num_summary += 1

        def summaries(x, count=self.num_summary):
            return torch.cat([x[..., :1, :], x[..., -count:, :]], dim=-2).flatten(2, 3)

        self.keys.summaries = summaries


class BlockStarts(MultiHeadMixer):
    """the first c tokens of a block for the last c"""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.keys.summaries = lambda x: x[..., : self.num_summary, :].flatten(2, 3)


class AlwaysCausal(MultiHeadMixer):
    """the future is masked whatever the option says, as in the 2020 release"""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.keys.causal = True


class PatternShifted(MultiHeadMixer):
    """blocks begin one token late"""

    def attend(self, query, key, value, mask):
        shifted = (part.roll(-1, dims=2) for part in (query, key, value))
        mask = None if mask is None else mask.roll(-1, dims=1)
        return super().attend(*shifted, mask).roll(1, dims=2)


class SetsOfHeadsExchanged(MultiHeadMixer):
    """the first half of the heads sees the far set"""

    def attend(self, query, key, value, mask):
        shift = self.num_heads - self.num_near
        rolled = (part.roll(shift, dims=1) for part in (query, key, value))
        return super().attend(*rolled, mask).roll(-shift, dims=1)


class LayersAlike(MultiHeadMixer):
    """the first layer of interleaved ones sees the far set"""

    def attend(self, query, key, value, mask):
        self.num_near = 0
        return super().attend(query, key, value, mask)


OPTIONS = {"stride": 5}

STRIDED = {"stride": 5}
FIXED = {"pattern": "fixed", "stride": 6, "num_summary": 2}

MUTANTS = [
    Mutant(CountedTwice, STRIDED),
    Mutant(CountedTwice, FIXED),
    Mutant(TwoSoftmaxes, STRIDED),
    Mutant(TwoSoftmaxes, FIXED),
    Mutant(OneTokenTooWide, {**STRIDED, "heads": "split"}),
    Mutant(FirstOfBlockToo, FIXED),
    Mutant(BlockStarts, FIXED),
    Mutant(AlwaysCausal, STRIDED),
    Mutant(AlwaysCausal, FIXED),
    Mutant(PatternShifted, FIXED),
    Mutant(SetsOfHeadsExchanged, {**STRIDED, "heads": "split"}),
    Mutant(LayersAlike, {**STRIDED, "heads": "interleaved"}),
    # Within one block the attention is another path.
    *(Mutant(fault, {}) for fault in common.MASKS),
]
