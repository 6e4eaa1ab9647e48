"""torch's own multi-head attention, asked for its weights."""

from __future__ import annotations

from peers.peer import Speed
from peers.transformer import PARITIES, TorchAttention

__all__ = ["PARITIES", "SPEEDS"]

SPEEDS = [Speed("nn.MultiheadAttention, weights", lambda n: TorchAttention(128, 4, explicit=True))]
