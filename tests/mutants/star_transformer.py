"""Star-Transformer with one thing wrong."""

from __future__ import annotations

import torch
from mutants.fault import Mutant

from lra_bench.stack import EncoderStack


class RelayFromPadding(EncoderStack):
    """the relay starts from a mean over padding too, as in fastNLP"""

    def initial_relay(self, x, mask):
        return super().initial_relay(x, None)


class RelaySeesPadding(EncoderStack):
    """the relay attends to pads"""

    def attend_star(self, attention, relay, satellites, mask):
        return super().attend_star(attention, relay, satellites, None)


class ClosedOverPadding(EncoderStack):
    """the ring is closed at the end of the batch's longest row"""

    def with_neighbours(self, satellites, mask):
        return super().with_neighbours(satellites, None)


class ZeroNeighbours(EncoderStack):
    """zero vectors beyond the ends take part in the softmax, as in fastNLP"""

    def beyond_ends(self, length, size, mask, device):
        return super().beyond_ends(length, size, mask, device) & False


class OpenedAtTheWrongEnd(EncoderStack):
    """an open ring ends with the batch's longest row, and the last token of others sees a pad"""

    def beyond_ends(self, length, size, mask, device):
        return super().beyond_ends(length, size, None, device)


class RelayOfTheCycleBefore(EncoderStack):
    """the relay attends to the tokens as they were before this cycle"""

    def attend_ring(self, attention, satellites, x, relay, mask):
        self.before = satellites
        return super().attend_ring(attention, satellites, x, relay, mask)

    def attend_star(self, attention, relay, satellites, mask):
        return super().attend_star(attention, relay, self.before, mask)


class LastRelayLost(EncoderStack):
    """only the tokens go out, so that the last relay reaches nothing"""

    def forward(self, x, mask=None):
        mixed, mask = super().forward(x, mask)
        relay = self.initial_relay(x, mask)
        return 2 * mixed - relay[:, None], mask


class NoEmbeddings(EncoderStack):
    """zeros stand where a token sees the embedding it began as"""

    def attend_ring(self, attention, satellites, x, relay, mask):
        return super().attend_ring(attention, satellites, torch.zeros_like(x), relay, mask)


MUTANTS = [
    Mutant(RelayFromPadding),
    Mutant(RelaySeesPadding),
    Mutant(ClosedOverPadding),
    Mutant(ZeroNeighbours, {"ring": "open"}),
    Mutant(OpenedAtTheWrongEnd, {"ring": "open"}),
    Mutant(RelayOfTheCycleBefore),
    Mutant(LastRelayLost),
    Mutant(NoEmbeddings),
]
