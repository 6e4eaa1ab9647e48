"""How many threads a process computes with.

Training may be given fewer than there are cores, where several cells train at once. A timed step gets all of
them whatever the others do, as it has the device alone: step times then compare however a cell was run. The
user's own OMP_NUM_THREADS holds for both where nobody chose.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from lra_bench.measure.machine import available_cores

VARIABLE = "OMP_NUM_THREADS"


def use_training_threads(chosen: int | None) -> None:
    """Sets this process's threads: those chosen by whoever started it, else all cores."""
    if chosen is not None:
        torch.set_num_threads(chosen)
    elif VARIABLE not in os.environ:
        torch.set_num_threads(available_cores())


@contextlib.contextmanager
def timing_threads(chosen: int | None) -> Iterator[int]:
    """All cores for a while; yields their number. Without a number chosen for training it is left as it is.

    chosen: as for `use_training_threads`. Where there is one, it outranks OMP_NUM_THREADS, here as there.
    """
    before = torch.get_num_threads()
    if chosen is not None:
        torch.set_num_threads(available_cores())
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
