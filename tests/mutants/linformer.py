"""Linformer with one thing wrong."""

from __future__ import annotations

import torch.nn.functional as F
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class ValuesNotMasked(MultiHeadMixer):
    """only the keys are zeroed before the projection"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            key = key.masked_fill(~mask[:, None, :, None], 0)
        unmasked = self.compress(value, self.E if self.F is None else self.F)
        return F.scaled_dot_product_attention(query, self.compress(key, self.E), unmasked)


class KeyProjectionForValues(MultiHeadMixer):
    """E where F belongs"""

    def compress(self, x, projection):
        return super().compress(x, self.E)


class LastColumns(MultiHeadMixer):
    """a short input takes the last columns of E, not the first"""

    def compress(self, x, projection):
        return super().compress(x, projection[..., -x.shape[2] :])


class OneProjectionForAllHeads(MultiHeadMixer):
    """sharing none, and yet all heads use the first head's"""

    def compress(self, x, projection):
        if projection.dim() == 3:
            projection = projection[:1].expand_as(projection)
        return super().compress(x, projection)


OPTIONS = {"rank": 6}
"""For the faults that any multi-head mixer can have."""

MUTANTS = [
    Mutant(ValuesNotMasked, {"rank": 6}),
    Mutant(KeyProjectionForValues, {"rank": 6, "sharing": "headwise"}),
    Mutant(KeyProjectionForValues, {"rank": 6, "sharing": "none"}),
    Mutant(LastColumns, {"rank": 6}),
    Mutant(OneProjectionForAllHeads, {"rank": 6, "sharing": "none"}),
]
