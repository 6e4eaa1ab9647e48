"""How a cell's worker is started: one process, or several under torchrun that share every batch."""

from __future__ import annotations

import os
import sys

from lra_bench.cell import Cell
from lra_bench.distributed import TORCHRUN_VARIABLES, started_by_torchrun
from lra_bench.errors import UsageError
from lra_bench.job import Job
from lra_bench.launch.allocator import allocator_environment
from lra_bench.launch.import_path import import_environment
from lra_bench.measure.machine import available_cores

THREADS = "OMP_NUM_THREADS"


def worker_command(job: Job) -> list[str]:
    """Of the process that reads the job from standard input and tells events on standard output."""
    # -P: the working folder is not searched first, or a checkout of this project would hide
    # the installed package.
    worker = ["-P", "-m", "lra_bench.worker"]
    if job.processes == 1 or started_by_torchrun():
        return [sys.executable, *worker]
    torchrun = ["-P", "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.processes}"]
    return [sys.executable, *torchrun, "--no-python", sys.executable, *worker]


def worker_environment(job: Job) -> dict[str, str]:
    """Of the same process."""
    environment = {**os.environ, **allocator_environment(), **import_environment()}
    if job.processes == 1:
        for name in TORCHRUN_VARIABLES:  # a control that runs before the cell that all processes share
            environment.pop(name, None)
    elif not started_by_torchrun():
        environment.setdefault(THREADS, str(max(1, available_cores() // job.processes)))
    return environment


def check_processes(cell: Cell, processes: int) -> None:
    """Before any work: whether so many processes can share the cell.

    Raises:
        UsageError: they can't; the message says what to do.
    """
    if processes < 1:
        raise UsageError(f"--nproc {processes}: expected at least 1 process.")
    if processes == 1:
        return
    asked = f"--nproc {processes}"
    batch_size = cell.settings.budget.batch_size
    kind, _, index = cell.device.partition(":")
    if cell.model_entry.kind == "estimator":
        raise UsageError(
            f"{asked}: {cell.model} is fitted by a solver of its own, which runs in one process. "
            "Leave --nproc out for it."
        )
    if batch_size < processes:
        raise UsageError(
            f"{asked}: a batch of {batch_size} can't be shared by more than {batch_size} processes. "
            "Take fewer, or a larger --batch-size (another setting: its result is another one)."
        )
    if kind not in ("cpu", "cuda") or index:
        raise UsageError(
            f"{asked}: each process needs a device of its own, and {cell.device} is one. "
            "Use --device cuda (which ones: CUDA_VISIBLE_DEVICES) or --device cpu."
        )
    if kind == "cuda":
        _check_devices(processes)
    _check_model(cell, asked)


def _check_devices(processes: int) -> None:
    import torch

    here = int(os.environ["LOCAL_WORLD_SIZE"]) if started_by_torchrun() else processes
    count = torch.cuda.device_count()
    if here > count:
        raise UsageError(
            f"{here} processes on this machine need a CUDA device each, and it has {count}. "
            f"Start {count} at most."
        )


def _check_model(cell: Cell, asked: str) -> None:
    """What looks at the whole batch at once would see a part of it."""
    from torch.nn.modules.batchnorm import _BatchNorm

    from lra_bench.building import build_model
    from lra_bench.shapes import shapes_only

    with shapes_only():
        model = build_model(
            cell.model_entry, cell.model_options, cell.settings.architecture, cell.build_task().spec
        )
    found = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if found:
        raise UsageError(
            f"{asked}: {cell.model} normalises over the batch ({found[0]}), of which a process has a part: "
            "its result would be another one. Run it in one process, or give it torch.nn.LayerNorm."
        )
