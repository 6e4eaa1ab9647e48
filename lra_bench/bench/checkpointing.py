"""Activation checkpointing is off for every model of a session, whoever wrote it.

It trades time for memory, so that a table with it on for some rows and off for others compares nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest import mock

import torch.utils.checkpoint

from lra_bench.errors import LraBenchError

_ENTRY_POINTS = ("CheckpointFunction", "_checkpoint_without_reentrant_generator")
"""What `torch.utils.checkpoint.checkpoint` looks up when it is called, however it was imported."""


class CheckpointingError(LraBenchError):
    """A model recomputes activations in its backward pass."""


@contextmanager
def refused() -> Iterator[None]:
    """Makes a step with activation checkpointing fail with CheckpointingError."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise CheckpointingError(
            "uses activation checkpointing; models are compared without it, so switch it off"
        )

    refusal = mock.Mock(side_effect=refuse, apply=refuse)
    with mock.patch.multiple(torch.utils.checkpoint, **dict.fromkeys(_ENTRY_POINTS, refusal)):
        yield
