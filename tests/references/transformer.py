"""Softmax attention (Vaswani et al. 2017, eq. 1)."""

from __future__ import annotations

from references.attention import transformer
from references.proof import Proof

PROOF = Proof(transformer)
