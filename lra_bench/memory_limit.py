"""A limit on this process's memory, so that too large a cell fails and takes nothing down with it."""

from __future__ import annotations

import contextlib
import sys

import torch

from lra_bench.measure.machine import available_bytes

MEMORY_SHARE = 0.95
"""Of the memory that is free at the start, what a process may take before it ends as `oom`."""


def limit_memory(device: torch.device, limit_bytes: int | None = None, share: float = 1.0) -> None:
    """Lets an allocation fail cleanly before the kernel has to end the process.

    limit_bytes: what the cell (on Linux) or its tensors on a CUDA device may take; without it, what is free
        on the CPU, and everything on other devices.
    share: this process's part of that on the CPU, where several processes of one cell divide it. Of CUDA
        devices each has its own, and the limit holds for each.
    """
    if device.type == "cuda" and limit_bytes is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), device)
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return  # CUDA maps far more address space than it uses.
    import resource

    available = available_bytes()
    limits = [limit_bytes, None if available is None else int(available * MEMORY_SHARE)]
    known = [int(limit * share) for limit in limits if limit is not None]
    if known:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (min(known), resource.RLIM_INFINITY))
