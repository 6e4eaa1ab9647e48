"""A limit on this process's memory, so that too large a cell fails and takes nothing down with it."""

from __future__ import annotations

import contextlib
import sys

import torch

from lra_bench.measure.machine import available_bytes

MEMORY_SHARE = 0.95
"""Of the memory that is free at the start, what a process may take before it ends as `oom`."""


def limit_memory(device: torch.device, share: float = 1.0) -> None:
    """Lets an allocation fail cleanly before the kernel has to end the process (Linux, CPU only).

    share: of what is free, where several processes of one cell divide it.
    """
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return  # CUDA maps far more address space than it uses.
    import resource

    available = available_bytes()
    if available is None:
        return
    limit = int(available * MEMORY_SHARE * share)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
