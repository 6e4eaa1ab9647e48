"""What the system tells about its hardware. Unknown things are None, never guessed."""

from __future__ import annotations

import math
import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

GIB = 2**30


def available_cores() -> int:
    """Cores that this process may run on: affinity, not what the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """Over the last minute; None where the system has none."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def busy_cores(seconds: float = 0.25) -> float | None:
    """How many of our cores others keep busy while this process sleeps; None without /proc/stat.

    The load average would also tell, but it is a minute late and counts what we did ourselves just before.
    """
    before = _core_ticks()
    time.sleep(seconds)
    after = _core_ticks()
    if not before or before.keys() != after.keys():
        return None
    shares = []
    for core, (busy, total) in after.items():
        passed = total - before[core][1]
        shares.append((busy - before[core][0]) / passed if passed else 0.0)
    return sum(shares)


def _core_ticks() -> dict[int, tuple[int, int]]:
    """{core: (busy, all)} in clock ticks since boot, of the cores that this process may run on."""
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    ticks = {}
    for number, fields in re.findall(r"^cpu(\d+) ([\d ]+)$", _read("/proc/stat") or "", re.MULTILINE):
        if ours is None or int(number) in ours:
            # user nice system idle iowait irq softirq steal; guest time is counted in user already.
            counts = [int(count) for count in fields.split()][:8]
            ticks[int(number)] = (sum(counts) - sum(counts[3:5]), sum(counts))
    return ticks


def cpu_model() -> str:
    """The processor's name as the system gives it, else its architecture."""
    text = _read("/proc/cpuinfo") or ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return (found.group(1) if found else platform.processor() or platform.machine() or "unknown").strip()


def ram_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def memory_limit_bytes() -> int | None:
    """What this process may use: the control group's limit if there is one, else the machine's memory."""
    limits = [ram_bytes()]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(path)
        limits.append(int(text) if text is not None and text.isdigit() else None)
    known = [limit for limit in limits if limit]
    return min(known) if known else None


def available_bytes() -> int | None:
    """Memory that a new process can have without others losing theirs; None where the system doesn't tell."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read("/proc/meminfo") or "", re.MULTILINE)
    free = [int(found.group(1)) * 1024] if found else []
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and limit.isdigit() and used and used.isdigit():
        # File pages count as used, but are given back when asked for.
        cached = re.search(r"^inactive_file (\d+)$", _read("/sys/fs/cgroup/memory.stat") or "", re.MULTILINE)
        free.append(int(limit) - int(used) + (int(cached.group(1)) if cached else 0))
    return min(free, default=None)


def cpu_clocks_mhz() -> list[int] | None:
    text = _read("/proc/cpuinfo") or ""
    return [
        round(float(value)) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)
    ] or None


def cpu_governor() -> str | None:
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def cpu_throttle_count() -> int | None:
    """Times that cores were slowed for heat since boot: compare before and after."""
    paths = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [int(text) for text in (_read(str(path)) for path in paths) if text and text.isdigit()]
    return sum(counts) if counts else None


def cuda_identity(device: torch.device) -> tuple[str, int, int]:
    """Name, number of visible devices, and memory of this one in bytes."""
    properties = torch.cuda.get_device_properties(device)
    return str(properties.name), torch.cuda.device_count(), int(properties.total_memory)


def describe_cuda(device: torch.device) -> dict[str, Any]:
    name, count, memory = cuda_identity(device)
    return {
        "name": name,
        "count": count,
        "memory_bytes": memory,
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
        "driver": _nvidia_driver(),
        "clock_mhz": _or_none(lambda: torch.cuda.clock_rate(device)),
        "temperature_c": _or_none(lambda: torch.cuda.temperature(device)),
        "power_w": _or_none(lambda: torch.cuda.power_draw(device) / 1000),
        "throttle_reasons": _or_none(lambda: _throttle_reasons(device)),
        "cudnn": torch.backends.cudnn.version(),
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
    }


def slug_of(name: str) -> str:
    """'Intel(R) Xeon(R) Processor @ 2.10GHz' -> 'intel-xeon'"""
    text = re.sub(r"\((?:r|tm|c)\)", " ", name.lower())
    text = re.sub(r"@.*$", " ", text)
    text = re.sub(r"\b(?:cpu|processor|\d+-core)\b", " ", text)
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-") or "unknown"


def even_gib(size_bytes: int) -> int:
    """Whole GiB, rounded up to an even number: drivers keep a share, so an '80 GB' device reports 79.2."""
    return 2 * math.ceil(size_bytes / GIB / 2)


def _nvidia_driver() -> str | None:
    text = _read("/proc/driver/nvidia/version") or ""
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else None


def _throttle_reasons(device: torch.device) -> int:
    """NVML's bit field of clock event reasons; 0 and 1 (idle) are harmless."""
    import pynvml  # type: ignore[import-not-found,unused-ignore]

    pynvml.nvmlInit()
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(pynvml.nvmlDeviceGetHandleByUUID(uuid)))


def _or_none(read: Callable[[], Any]) -> Any:
    """A reading that needs NVML and its Python bindings, or None without them."""
    try:
        return read()
    except Exception:  # NVML's own errors derive from Exception only, and a reading is never worth a run.
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
