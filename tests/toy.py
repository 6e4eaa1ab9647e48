"""A small task and small models for tests of the harness, reached by dotted path like a user's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from lra_bench.data.columns import ragged_column
from lra_bench.data.task import Split, Task, TaskSpec
from lra_bench.errors import OptionError, require
from lra_bench.mixer import Cost, TokenMixer


class Evens(Task):
    """Are most tokens even? Learnable in a few steps; rows of 3 to `length` tokens."""

    shard_size = 64

    def __init__(self, *, length: int = 8, seed: int = 0) -> None:
        require(3 <= length <= 64, "length", length, "3 to 64")
        self.length = length
        self.seed = seed
        self.split_sizes: Mapping[Split, int] = {"train": 256, "validation": 64, "test": 128}

    @property
    def spec(self) -> TaskSpec:
        return TaskSpec(
            task="toy:Evens",
            dataset="evens-generated",
            variant=f"length{self.length}",
            num_classes=2,
            vocabulary=(*map(str, range(10)), "<pad>"),
            pad_id=10,
            max_length=self.length,
            fixed_length=False,
            chance=0.5,
        )

    def parameters(self) -> dict[str, Any]:
        return {"length": self.length, "seed": self.seed, "generator_version": self.generator_version}

    def examples(self, split: Split, start: int, stop: int) -> pa.Table:
        rows = []
        for index in range(start, stop):
            rng = np.random.default_rng([self.seed, ("train", "validation", "test").index(split), index])
            rows.append(rng.integers(0, 10, rng.integers(3, self.length + 1)).astype(np.uint8))
        offsets = np.cumsum([0, *map(len, rows)])
        labels = np.array([2 * (row % 2 == 0).sum() > len(row) for row in rows], dtype=np.int64)
        return pa.table({"input_ids": ragged_column(np.concatenate(rows), offsets), "label": labels})

    @classmethod
    def options_for_length(cls, length: int, options: Mapping[str, Any]) -> dict[str, Any]:
        if length > 64:
            raise OptionError(f"--length {length}: evens has at most 64 tokens.")
        return {"length": length}


class Mean(TokenMixer):
    """Every token gets the mean of all real tokens, times `gain`."""

    def __init__(self, dim: int, num_heads: int, *, gain: float = 1.0, **shape: Any) -> None:
        super().__init__(dim, num_heads, **shape)
        require(gain > 0, "gain", gain, "above 0")
        self.gain = gain
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
        mean = (x * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return self.output(self.gain * mean).expand_as(x)

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        return Cost(2 * dim * dim, 4 * dim)


class Plain(TokenMixer):
    """Changes nothing, and has no options."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x

    @classmethod
    def cost(cls, length: int, dim: int, num_heads: int, *, head_dim: int, **options: Any) -> Cost:
        return Cost(0, 0)


class Exploding(Mean):
    """Its outputs soon leave the range of a float."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x, mask) * float("inf")


class Hungry(Mean):
    """Asks for more memory than any machine has."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if not x.is_meta:
            torch.empty(2**50)
        return super().forward(x, mask)


class Large(Mean):
    """Asks for more memory than it is given, and less than there is."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if not x.is_meta:
            torch.ones(3 * 2**30, dtype=torch.uint8)
        return super().forward(x, mask)


class Slow(Mean):
    """Takes its time for a step."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if not x.is_meta:
            import time

            time.sleep(0.3)
        return super().forward(x, mask)


class HungryInSecond(Mean):
    """Asks for too much in one of several processes, in the midst of training."""

    passes = 0

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        self.passes += self.training and not x.is_meta
        if self.passes == 5 and os.environ.get("RANK") == "1":
            torch.empty(2**50)
        return super().forward(x, mask)


class Normalised(Mean):
    """Looks at the whole batch at once."""

    def __init__(self, dim: int, num_heads: int, **arguments: Any) -> None:
        super().__init__(dim, num_heads, **arguments)
        self.norm = nn.BatchNorm1d(dim)


class Broken(Mean):
    """Fails with an error of its own."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if not x.is_meta:
            raise KeyError("a fault in somebody's model")
        return super().forward(x, mask)


class SilentlyKilled(Mean):
    """Dies as a process does that somebody kills."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if not x.is_meta:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x, mask)


PROTOCOL = {
    "name": "toy",
    "summary": "Small and fast, for tests.",
    "differs": "From everything.",
    "ranks": False,
    "next": "--protocol quick",
    "defaults": {
        "architecture": {
            "num_layers": 1,
            "dim": 8,
            "num_heads": 2,
            "head_dim": 4,
            "ffn_dim": 16,
            "dropout": 0.1,
            "attention_dropout": 0.0,
            "positions": "learned",
            "pooling": "mean",
        },
        "optimizer": {
            "learning_rate": 0.01,
            "betas": [0.9, 0.98],
            "epsilon": 1.0e-8,
            "weight_decay": 0.01,
            "gradient_clip_norm": 1.0,
        },
        "schedule": {"name": "linear", "warmup_steps": 2},
        "budget": {"steps": 12, "batch_size": 16, "evaluate_every": 5, "time_limit_s": None},
        "data": {"options": {}, "train_examples": None, "padding": "longest"},
        "evaluation": {
            "validation_examples": None,
            "test_examples": None,
            "train_examples": 32,
            "batch_size": 50,
            "target_accuracy": 0.5,
        },
    },
    "tasks": {},
    "controls": {"budget": {"steps": 20}},
}
