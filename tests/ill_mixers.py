"""Mixers that end in every way a cell of a measuring session can end, and one that is well."""

import os
import signal
import time

import torch
from torch.utils.checkpoint import checkpoint

from lra_bench.errors import OptionError
from lra_bench.mixer import Cost, TokenMixer


class Scale(TokenMixer):
    """Well: x times a learned vector."""

    def __init__(self, dim, num_heads, **shape):
        super().__init__(dim, num_heads, **shape)
        self.weight = torch.nn.Parameter(torch.ones(dim))

    def forward(self, x, mask=None):
        return self.act(x * self.weight)

    def act(self, x):
        return x

    @classmethod
    def cost(cls, length, dim, num_heads, *, head_dim, **options):
        return Cost(0, 8 * length * dim)


class OnlyReal(Scale):
    """Misbehaves in a real step, and not on meta tensors."""

    def act(self, x):
        if x.device.type != "meta":
            self.misbehave()
        return x


class Hanging(OnlyReal):
    def misbehave(self):
        time.sleep(600)


class Killed(OnlyReal):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Broken(OnlyReal):
    def misbehave(self):
        raise ValueError("a fault of its own")


class Hungry(OnlyReal):
    def misbehave(self):
        torch.empty(2**50, dtype=torch.uint8)


class Diverging(Scale):
    def act(self, x):
        return x * float("nan")


class Recomputing(Scale):
    """Activation checkpointing, through a name that was imported before anybody could replace it."""

    def act(self, x):
        return checkpoint(torch.tanh, x, use_reentrant=False)


class RecomputingReentrant(Scale):
    def act(self, x):
        return checkpoint(torch.tanh, x, use_reentrant=True)


class Claiming(Scale):
    """Says beforehand that it needs more memory than there is."""

    @classmethod
    def cost(cls, length, dim, num_heads, *, head_dim, **options):
        return Cost(0, 10**15)


class ShortOnly(Scale):
    """Has no longer form than 32 tokens."""

    def __init__(self, dim, num_heads, **shape):
        super().__init__(dim, num_heads, **shape)
        if self.max_length > 32:
            raise OptionError(f"max_length={self.max_length} is out of range: expected at most 32.")
