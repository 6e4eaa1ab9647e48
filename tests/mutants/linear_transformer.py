"""Linear attention with one thing wrong."""

from __future__ import annotations

import torch.nn.functional as F
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer
from lra_bench.models.kernel import linear_transformer as module


class KeysNotPhiZeroed(MultiHeadMixer):
    """K is zeroed at pads instead of phi(K), and phi(0) is 1"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            key, value = (part.masked_fill(~mask[:, None, :, None], 0) for part in (key, value))
        return super().attend(query, key, value, None)


class _Functions:
    """torch.nn.functional with another feature map in elu's place."""

    def __init__(self, elu):
        self.elu = elu
        self.pad = F.pad


class ReluForElu(MultiHeadMixer):
    """relu(x) + 1 in place of elu(x) + 1"""

    def attend(self, *arguments):
        return _with(lambda x, inplace: F.relu(x), super().attend, arguments)


class LeakyForElu(MultiHeadMixer):
    """a leaky relu in place of elu"""

    def attend(self, *arguments):
        return _with(lambda x, inplace: F.leaky_relu(x, 0.5), super().attend, arguments)


def _with(elu, attend, arguments):
    shipped = module.F
    module.F = _Functions(elu)
    try:
        return attend(*arguments)
    finally:
        module.F = shipped


# Linear attention has no scale; one before its feature map is a fault like another.
MUTANTS = [Mutant(KeysNotPhiZeroed), Mutant(ReluForElu), Mutant(LeakyForElu)]
