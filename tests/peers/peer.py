"""Other implementations of an entry: for equal outputs, frozen as golden files, and for speed.

`tests/peers/<entry>.py` has `PARITIES`, a mapping from labels to `Parity`, and `SPEEDS`, a list of
`Speed`. Packages are imported within the functions only, so that no run of the suite needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lra_bench.validation.subject import Sizes

SIZES = Sizes(dim=24, num_heads=3, head_dim=8, max_length=32, ffn_dim=48)

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Parity:
    """A peer that gives our output with our weights.

    `python -m peers.freeze ENTRY` runs the peer and writes tests/golden/<entry>-<label>.npz: its
    state, an input, lengths, its output; tests/models/test_public_implementations.py compares ours.
    """

    package: str
    """With its version, as pip takes it."""
    build: Callable[[], nn.Module]
    """The peer, randomly initialised; called under a fixed seed."""
    run: Callable[[nn.Module, Tensor, Tensor], Tensor]
    """(peer, x (b, n, d) float64, mask (b, n)) -> (b, n, d)"""
    give: Callable[[nn.Module, Weights], None]
    """(our mixer or encoder, the peer's state) copies the peer's weights into ours."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of ours."""
    lengths: tuple[int, ...] = (32, 21, 3)
    """Of the batch; all equal where the peer knows no mask."""
    sizes: Sizes = SIZES
    tolerance: float = 1e-9
    """Largest error relative to the largest output, in float64."""
    remark: str = ""
    """What is set so that both compute the same."""


@dataclass(frozen=True)
class Speed:
    """A peer to run beside ours: batch 4, width 128, 4 heads of 32, fp32, the same parameters' meaning."""

    peer: str
    """What it is, with its version."""
    build: Callable[[int], nn.Module]
    """length -> a module of x (b, n, 128) -> (b, n, 128), with its input and output projections."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of ours."""
    lengths: tuple[int, ...] = (1024, 4096)


def assign(target: Tensor | None, value: Tensor) -> None:
    """Writes `value` into a parameter or buffer of ours; shapes must agree."""
    assert target is not None
    assert target.shape == value.shape, f"{tuple(target.shape)} and {tuple(value.shape)}"
    with torch.no_grad():
        target.copy_(value)
