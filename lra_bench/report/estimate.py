"""How long training will take, roughly, before anything was measured."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lra_bench.cell import Cell

EFFICIENCY = 0.5
"""Share of a large matrix product's speed that training reaches: a rule of thumb, 0.4 to 0.8 on two cores."""
OVERHEAD_S = 0.002
"""Per step: dispatch of small kernels."""
CALIBRATION_SIZE = 1024


def estimate_training_s(cell: Cell) -> float | None:
    """Seconds of training: FLOPs over what a matrix product reaches here. None if they can't be counted.

    Good to a factor of about two; the measured step time replaces it once there is one.
    """
    step_flops = counted_step_flops(cell)
    return None if step_flops is None else training_s(step_flops, cell.settings.budget.steps, cell.device)


def training_s(step_flops: int, steps: int, device: str) -> float:
    """Seconds of so many steps of so many FLOPs."""
    return steps * (step_flops / (EFFICIENCY * matmul_flops_per_s(device)) + OVERHEAD_S)


def counted_step_flops(cell: Cell) -> int | None:
    """FLOPs of a training step at full length, counted without computing; None if they can't be."""
    import torch

    from lra_bench.building import build_model
    from lra_bench.errors import LraBenchError
    from lra_bench.measure.flops import count_flops
    from lra_bench.shapes import shapes_only

    spec = cell.build_task().spec
    try:
        with shapes_only():
            model = build_model(cell.model_entry, cell.model_options, cell.settings.architecture, spec)
            ids = torch.zeros((1, spec.max_length), dtype=torch.int64)
        counted = count_flops(model, (ids, None, ids, None) if spec.paired else (ids, None))
    except LraBenchError:
        return None
    return counted.step * cell.settings.budget.batch_size


@functools.cache
def matmul_flops_per_s(device: str) -> float:
    """What a product of two square matrices reaches on the device, in FLOP/s; the best of five."""
    import torch

    from lra_bench.measure.timing import synchronise

    target = torch.device(device)
    n = CALIBRATION_SIZE
    a = torch.ones(n, n, device=target)
    best = float("inf")
    for _ in range(5):
        synchronise(target)
        start = time.perf_counter()
        a @ a
        synchronise(target)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best
