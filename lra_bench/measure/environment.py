"""Where a record was made and from what: machine, software, command and commit. All JSON-ready."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import lra_bench
from lra_bench.measure import machine

_PACKAGES = ("numpy", "numba", "datasets", "lra-bench")
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF")
_PREFIXES = ("MALLOC_",)


def device_slug(device: str | torch.device) -> str:
    """A folder name for a kind of machine: model, count and memory, as in `cpu-intel-xeon-2c-24g`.

    For CUDA `nvidia-h100-80gb-hbm3-1x80g`: visible devices times the memory of one, in GiB, up to the
    next even number. Small letters, digits and hyphens only. One slug is one kind of machine; times of
    two machines of a kind still do not compare.
    """
    device = torch.device(device)
    if device.type == "cuda":
        name, count, memory_bytes = machine.cuda_identity(device)
        return f"{machine.slug_of(name)}-{count}x{machine.even_gib(memory_bytes)}g"
    limit_bytes = machine.memory_limit_bytes()
    memory = f"-{round(limit_bytes / machine.GIB)}g" if limit_bytes else ""
    return f"{device.type}-{machine.slug_of(machine.cpu_model())}-{machine.available_cores()}c{memory}"


def describe_environment(device: str | torch.device, threads: int | None = None) -> dict[str, Any]:
    """Everything about machine and software that a number may depend on. Unknown things are None.

    threads: intra-operation threads of the run; those in force by default. The host's name is hashed.
    """
    device = torch.device(device)
    cores = machine.available_cores()
    if device.type == "cuda":
        described = machine.describe_cuda(device)
    else:
        described = {"name": machine.cpu_model(), "count": cores}
    return {
        "device": {"slug": device_slug(device), "type": device.type, **described},
        "cpu": {
            "model": machine.cpu_model(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores_machine": os.cpu_count(),
            "cores_available": cores,
            "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "clock_mhz": machine.cpu_clocks_mhz(),
            "governor": machine.cpu_governor(),
            "throttle_count": machine.cpu_throttle_count(),
            "load_average": machine.load_average(),
        },
        "threads": torch.get_num_threads() if threads is None else threads,
        "interop_threads": torch.get_num_interop_threads(),
        "ram_bytes": machine.ram_bytes(),
        "memory_limit_bytes": machine.memory_limit_bytes(),
        "os": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": platform.python_version(),
        # torch's own string tells the build (+cpu, +cu128), which its metadata may not.
        "versions": {
            "torch": str(torch.__version__),
            **{name.replace("-", "_"): _version(name) for name in _PACKAGES},
        },
        "torch_git": str(torch.version.git_version),
        "cuda": None if torch.version.cuda is None else str(torch.version.cuda),
        "mkl": bool(torch.backends.mkl.is_available()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "variables": {
            name: value
            for name, value in os.environ.items()
            if name in _VARIABLES or name.startswith(_PREFIXES)
        },
        "host_sha256": host_hash(),
    }


def host_hash() -> str:
    """Tells machines apart without naming them."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:16]


def command_line() -> str:
    """The command that this process is running, as one would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def describe_provenance(command: str | Sequence[str]) -> dict[str, Any]:
    """The command as one would type it, and the version, commit and state of the source.

    `commit` and `dirty` are None for an installation that is no git checkout.
    """
    commit, dirty = source_commit()
    return {
        "command": command if isinstance(command, str) else shlex.join(command),
        "version": lra_bench.__version__,
        "commit": commit,
        "dirty": dirty,
    }


def source_commit(folder: Path | None = None) -> tuple[str | None, bool | None]:
    """Commit of the checkout that a package's folder lies in, and whether tracked files differ from it.

    folder: this package's own by default. Untracked files (results, caches) do not make it dirty.
    """
    folder = folder or Path(lra_bench.__file__).parent
    # A wheel in a virtual environment inside someone's repository is not that repository's source.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return _git(folder, "rev-parse", "HEAD"), None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
