"""GroupBERT with one thing wrong in its layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mutants.fault import Mutant

from lra_bench.stack import EncoderStack


class GateAndValueExchanged(EncoderStack):
    """the sigmoid is on the first half"""

    def build_convolution(self):
        module = super().build_convolution()

        def gate(x):
            first, second = module.gated_projection(x).chunk(2, dim=-1)
            return torch.sigmoid(first) * second

        module.gate = gate
        return module


class PaddingConvolved(EncoderStack):
    """the convolution knows no mask"""

    def build_convolution(self):
        module = super().build_convolution()
        forward = module.forward
        module.forward = lambda x, mask: forward(x, None)
        return module


class MaskBeforeTheGate(EncoderStack):
    """padding is zero before the gate, whose bias makes it something again"""

    def build_convolution(self):
        module = super().build_convolution()
        forward = module.forward

        def masked(x, mask):
            return forward(x if mask is None else x.masked_fill(~mask[..., None], 0), None)

        module.forward = masked
        return module


class GroupsInterleaved(EncoderStack):
    """group g takes every G-th channel"""

    def build_ffn(self):
        module = super().build_ffn()
        contract = module.contract

        def interleaved(hidden):
            return contract(hidden.unflatten(-1, (-1, self.ffn_groups)).transpose(-2, -1).flatten(-2))

        module.contract = interleaved
        return module


class NoProjectionAfterTheGroups(EncoderStack):
    """channels of different groups never meet"""

    def build_ffn(self):
        module = super().build_ffn()
        module.forward = lambda x: module.contract(F.gelu(module.expand(x)))
        return module


class AttentionFirst(EncoderStack):
    """the convolution module comes after attention's feed-forward"""

    def build_block(self, index):
        block = super().build_block(index)
        convolution, block_forward = block.convolution, block.forward

        def forward(x, mask):
            block.convolution = None
            x = block_forward(x, mask)
            block.convolution = convolution
            return x + convolution(block.convolution_norm(x), mask)

        block.forward = forward
        return block


class NoFinalNorm(EncoderStack):
    """the last layer's output goes out as it is"""

    def forward(self, x, mask=None):
        for block in self.blocks:
            x = block(x, mask)
        return x, mask


MUTANTS = [
    Mutant(fault)
    for fault in (
        GateAndValueExchanged,
        PaddingConvolved,
        MaskBeforeTheGate,
        GroupsInterleaved,
        NoProjectionAfterTheGroups,
        AttentionFirst,
        NoFinalNorm,
    )
]
