"""A training step that never changes, against which a model's step time is kept.

Seconds of another day say nothing; how often a model's step takes the time of this one says more, as both
are slowed down by much the same. It is plain torch and no part of any model here, so that no change of the
project reaches it. Half of its time goes to matrix products and half to passes over memory, roughly as in the
models. What is changed here needs a new VERSION: ratios of two versions don't compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

VERSION = 1
LENGTH, WIDTH, HIDDEN, HEADS, LAYERS = 384, 64, 256, 2, 2


def calibration_step() -> Callable[[], object]:
    """Builds the step: forward and backward of explicit attention and a feed-forward part, then descent."""
    random = torch.Generator().manual_seed(0)

    def weights(rows: int, columns: int) -> Tensor:
        return (torch.randn(rows, columns, generator=random) / math.sqrt(rows)).requires_grad_()

    layers = [
        [weights(WIDTH, 3 * WIDTH), weights(WIDTH, WIDTH), weights(WIDTH, HIDDEN), weights(HIDDEN, WIDTH)]
        for _ in range(LAYERS)
    ]
    parameters = [one for layer in layers for one in layer]
    x = torch.randn(LENGTH, WIDTH, generator=random)

    def step() -> None:
        hidden = x
        for qkv, out, wide, narrow in layers:
            heads = (hidden @ qkv).view(LENGTH, 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)  # (3, h, n, e)
            query, key, value = heads.unbind(0)
            attention = (query @ key.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)).softmax(-1)  # (h, n, n)
            mixed = (attention @ value).transpose(0, 1).reshape(LENGTH, WIDTH)
            hidden = torch.nn.functional.layer_norm(hidden + mixed @ out, (WIDTH,))
            hidden = hidden + torch.nn.functional.gelu(hidden @ wide) @ narrow
        loss = hidden.square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=1e-4)

    return step
