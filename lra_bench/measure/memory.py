"""Peak memory of one training step.

CPU: what the allocator handed out, from the profiler's allocation events over one steady step, and
the state that was resident before it. This sees workspaces inside operations, is the same in every
repeat and for any number of threads, and has nothing to do with what the system's heap keeps.
CUDA: `max_memory_allocated` after a reset. The two count differently (CUDA rounds up to 512 bytes and adds
library workspaces) and are never compared. Elsewhere only the tracker of `tracker.py` is left.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lra_bench.errors import require
from lra_bench.measure.tracker import PASSING, StorageTracker, optimizer_tensors, storage_bytes

Method = Literal["allocator_events", "storage_tracker", "cuda_allocator"]


@dataclass(frozen=True)
class PeakMemory:
    """Bytes. `peak_bytes` is the headline; compare it only where `method` is the same."""

    method: Method
    """allocator_events (CPU), cuda_allocator, or storage_tracker (other devices, or events unreadable)."""
    peak_bytes: int
    state_bytes: int
    """Resident before the step: parameters, buffers, optimiser state, batch, and what else the step read."""
    step_bytes: int
    """Peak less state: what the step itself adds at its worst."""
    breakdown: dict[str, int]
    """By purpose (`tracker.PURPOSES`) at the tracker's own peak, in an eager step apart. It misses workspaces
    inside operations, so its sum may be below `peak_bytes`; for a compiled model it may be above."""
    process_peak_bytes: int | None
    """VmHWM of this process so far, with Python and torch; None where the system does not tell."""
    reserved_bytes: int | None = None
    """CUDA: peak of what the caching allocator took from the device."""
    baseline_bytes: int | None = None
    """CUDA: allocated before the step. What exceeds `state_bytes` is rounding, workspaces of libraries, and
    tensors that the step does not touch."""
    allocation_retries: int | None = None
    """CUDA: times the allocator had to empty its cache during the step."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_peak_memory(
    step: Callable[[], object],
    *,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    batch: Iterable[Tensor | None] = (),
    device: str | torch.device = "cpu",
    warm_up_steps: int = 1,
) -> PeakMemory:
    """Runs `step` `warm_up_steps` + 2 times and says how much memory one steady step needs.

    step: forward, backward and update, or forward alone; it may clear gradients. Gradients of `model`
    are set to None before each counted step, so that none of the step before is counted in.
    warm_up_steps: at least one, unless the optimiser has its state already.

    Time under these trackers means nothing: never time here.
    """
    device = torch.device(device)
    require(warm_up_steps >= 0, "warm_up_steps", warm_up_steps, "at least 0")
    tensors = [tensor for tensor in batch if tensor is not None]
    for _ in range(warm_up_steps):
        step()
    _clear_gradients(model)
    step_bytes: int | None = None
    cuda: dict[str, int] = {}
    if device.type == "cpu":
        step_bytes = allocator_high_water(step)
    elif device.type == "cuda":
        cuda = _cuda_high_water(step, device)
        step_bytes = cuda["peak_bytes"] - cuda["baseline_bytes"]
    # Read before the tracker's step, which is eager and may need more than a compiled one.
    process_bytes = process_peak_bytes()
    tracker = _track(step, model, optimizer, tensors, device)
    state = [*model.parameters(), *model.buffers(), *optimizer_tensors(optimizer), *tensors]
    state_bytes = storage_bytes(t for t in state if t.device.type == device.type)
    state_bytes += tracker.live["other_resident"]
    method: Method = "cuda_allocator" if cuda else "allocator_events"
    if step_bytes is None:
        method, step_bytes = "storage_tracker", sum(tracker.at_peak[purpose] for purpose in PASSING)
    return PeakMemory(
        method=method,
        peak_bytes=cuda.get("peak_bytes", state_bytes + step_bytes),
        state_bytes=state_bytes,
        step_bytes=step_bytes,
        breakdown=dict(tracker.at_peak),
        process_peak_bytes=process_bytes,
        reserved_bytes=cuda.get("reserved_bytes"),
        baseline_bytes=cuda.get("baseline_bytes"),
        allocation_retries=cuda.get("allocation_retries"),
    )


def _cuda_high_water(step: Callable[[], object], device: torch.device) -> dict[str, int]:
    """The caching allocator's own peaks over one step, and what was allocated before it."""
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    baseline = torch.cuda.memory_allocated(device)
    retries = torch.cuda.memory_stats(device).get("num_alloc_retries", 0)
    step()
    torch.cuda.synchronize(device)
    return {
        "peak_bytes": torch.cuda.max_memory_allocated(device),
        "reserved_bytes": torch.cuda.max_memory_reserved(device),
        "baseline_bytes": baseline,
        "allocation_retries": torch.cuda.memory_stats(device).get("num_alloc_retries", 0) - retries,
    }


def _track(
    step: Callable[[], object],
    model: nn.Module,
    optimizer: Optimizer | None,
    batch: list[Tensor],
    device: torch.device,
) -> StorageTracker:
    _clear_gradients(model)
    tracker = StorageTracker(model, optimizer, batch, device.type)
    # A compiled function that meets a dispatch mode falls back to eager for good, in this process; told
    # to be eager for now, it stays compiled.
    with torch.compiler.set_stance("force_eager"), tracker:
        step()
    return tracker


def _clear_gradients(model: nn.Module) -> None:
    """To None, not to zero: the allocator's events don't report frees of blocks older than they are."""
    model.zero_grad(set_to_none=True)
    # Cycles from the steps before would be freed at some moment within the counted one.
    gc.collect()


def allocator_high_water(step: Callable[[], object]) -> int | None:
    """Largest sum of live CPU allocations made within `step`, in bytes; None if events can't be read.

    Blocks allocated before and freed within are ignored. Not seen: allocations outside PyTorch's
    allocator (a BLAS library's own buffers, C++ vectors), and those of Python threads that the step starts.
    """
    profiler = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    )
    with _quiet_profiler():
        profiler.start()
    try:
        step()
    finally:
        with _quiet_profiler():
            profiler.stop()
    events = _allocation_events(profiler)
    if events is None:
        return None
    live: dict[int, int] = {}
    total = peak = 0
    for address, size in events:
        if size > 0:
            live[address] = size
            total += size
            peak = max(peak, total)
        else:
            total -= live.pop(address, 0)
    return peak


def _allocation_events(profiler: torch.profiler.profile) -> list[tuple[int, int]] | None:
    """(address, bytes) of CPU allocations in time order, bytes negative for a free.

    All use of the profiler's private interface is here. None if it isn't what it was.
    """
    try:
        results: Any = profiler.profiler.kineto_results  # type: ignore[union-attr]
        allocation = torch._C._profiler._EventType.Allocation
        found = []
        stack = list(reversed(results.experimental_event_tree()))
        while stack:
            node = stack.pop()
            stack.extend(reversed(node.children))
            if node.tag == allocation and node.extra_fields.device.type == "cpu":
                fields = node.extra_fields
                found.append((node.start_time_ns, int(fields.ptr), int(fields.alloc_size)))
    except (AttributeError, TypeError, RuntimeError):
        return None
    # Stable: where the clock ties, the order of the tree is the order of a thread's events.
    found.sort(key=lambda event: event[0])
    return [(address, size) for _, address, size in found] or None


_PROFILER_NOISE = re.compile(rb"USDT|kineto|profiler_start|profiler_stop|ActivityProfiler|\.cpp:\d+\]", re.I)


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Drops the lines that the profiler writes to file descriptor 2 at start and stop; keeps all others."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        saved = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            caught.seek(0)
            kept = b"".join(line for line in caught if not _PROFILER_NOISE.search(line))
            if kept:
                os.write(2, kept)


def process_peak_bytes() -> int | None:
    """VmHWM of this process: its largest resident set, with about 220 MiB of Python and torch.

    Never `ru_maxrss`: a child starts with its parent's value there, so that an empty child of a large
    parent reports the parent's peak. VmHWM belongs to the address space and starts anew.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def is_out_of_memory(error: BaseException) -> bool:
    """True for PyTorch's, CUDA's and Python's ways of saying that memory ran out.

    The CPU allocator raises a plain RuntimeError; only its text tells.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    signs = (
        "can't allocate memory",
        "out of memory",
        "not enough memory",
        "cannot allocate memory",
        "alloc_failed",
    )
    return isinstance(error, (RuntimeError, OSError)) and any(sign in text for sign in signs)
