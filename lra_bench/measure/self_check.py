"""Do the instruments work on this machine? Each is held to something known beforehand, in seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lra_bench.measure import machine
from lra_bench.measure.flops import count_flops
from lra_bench.measure.memory import measure_peak_memory
from lra_bench.measure.timing import NOISY_BUSY_SHARE, StepTime, StepTimer

Status = Literal["ok", "failed", "noisy", "skipped"]

SLEEP_S = 0.02
SLEEP_EXCESS = 1.25
"""A sleep may last longer than asked for, by this factor at most where the machine is not busy."""
PRODUCTS = 4
PRODUCT_SIZE = 512
DOUBLE = (1.6, 2.5)
"""What twice the work may take, as a multiple."""
SAMPLES = 15
ATTEMPTS = 3


@dataclass(frozen=True)
class Check:
    """One instrument against one known thing."""

    instrument: str
    against: str
    expected: str
    measured: str
    status: Status
    """noisy: the machine was busy, so that a time says nothing about the timer."""
    advice: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_checks(device: str | torch.device = "cpu") -> list[Check]:
    """All checks that make sense on a device. Takes a few seconds; raises nothing where one fails."""
    device = torch.device(device)
    checks = [_persistent(check_sleep), _persistent(lambda: check_doubling(device))]
    if device.type == "cuda":
        checks.append(check_events(device))
    checks += [check_vectors(device), check_scores(device)]
    return [*checks, *check_flops()]


def check_sleep() -> Check:
    """The timer against a sleep: never shorter than it, and hardly longer."""
    found = _timed(lambda: time.sleep(SLEEP_S), torch.device("cpu")).median_s
    status: Status = "ok"
    if found < SLEEP_S:
        status = "failed"
    elif found > SLEEP_EXCESS * SLEEP_S:
        status = "noisy" if _busy() else "failed"
    return Check(
        "timer",
        "a sleep",
        f"{1e3 * SLEEP_S:g} to {1e3 * SLEEP_EXCESS * SLEEP_S:g} ms",
        f"{1e3 * found:.2f} ms",
        status,
        "Step times here can't be trusted: the clock is off, or the system delays every step.",
    )


def check_doubling(device: torch.device) -> Check:
    """The timer against matrix products: twice as many take about twice the time."""
    a = torch.ones(PRODUCT_SIZE, PRODUCT_SIZE, device=device)

    def products(count: int) -> Callable[[], None]:
        def step() -> None:
            for _ in range(count):
                torch.mm(a, a)

        return step

    once, twice = (_timed(products(count), device).median_s for count in (PRODUCTS, 2 * PRODUCTS))
    ratio = twice / once
    status: Status = "ok"
    if not DOUBLE[0] <= ratio <= DOUBLE[1]:
        status = "noisy" if _busy() else "failed"
    return Check(
        "timer",
        f"{2 * PRODUCTS} matrix products over {PRODUCTS}",
        f"{DOUBLE[0]:g} to {DOUBLE[1]:g} times",
        f"{ratio:.2f} times",
        status,
        "Times here do not follow the work: end what else runs here, and check clocks and threads.",
    )


def check_events(device: torch.device) -> Check:
    """CUDA: the wall clock of a synchronised step is no shorter than the time between its events."""
    a = torch.ones(4 * PRODUCT_SIZE, 4 * PRODUCT_SIZE, device=device)
    found = _timed(lambda: torch.mm(a, a), device)
    on_device = found.device_samples_s or [math.inf]
    longer = sum(wall >= events for wall, events in zip(found.samples_s, on_device, strict=False))
    return Check(
        "timer",
        "CUDA events",
        f"{len(on_device)} steps no shorter",
        f"{longer} no shorter",
        "ok" if longer == len(on_device) else "failed",
        "A step ends before its kernels do: the timer does not wait for this device.",
    )


def check_vectors(device: torch.device) -> Check:
    """The memory meter against a chain of products of vectors, of which two are alive at the worst moment."""
    x = torch.ones(2**18, device=device)  # 1 MiB

    def step() -> None:
        first = x * x
        second = first * x  # two beside x
        del first
        second * x  # two again

    return _memory_check("a chain of vectors", step, x, 2 * x.nbytes)


def check_scores(device: torch.device) -> Check:
    """The memory meter against explicit attention: scores and weights of n x n, alive together once."""
    n, width = 512, 16
    x = torch.ones(n, width, device=device)

    def step() -> None:
        with torch.no_grad():
            weights = torch.softmax(x @ x.T, dim=-1)  # scores die as soon as there are weights
            weights @ x  # one n x n and a narrow result: less

    return _memory_check("explicit attention", step, x, 2 * 4 * n * n)


def _memory_check(against: str, step: Callable[[], None], x: Tensor, expected: int) -> Check:
    if x.device.type == "mps":
        return Check("memory", against, f"{expected:,} bytes", "-", "skipped", "MPS has no peak to read.")
    found = measure_peak_memory(step, model=nn.Identity(), batch=[x], device=x.device)
    return Check(
        "memory",
        against,
        f"{expected:,} bytes",
        f"{found.step_bytes:,} bytes ({found.method})",
        "ok" if found.step_bytes == expected else "failed",
        "Peak memory here is not what the allocator hands out: use a torch release that lra-bench supports.",
    )


class _Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = nn.functional.scaled_dot_product_attention(x, x, x)
        return mixed


class _Transform(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        transformed: Tensor = torch.fft.rfft(x).abs()
        return transformed


def check_flops() -> list[Check]:
    """The FLOP counter against closed formulas, a multiply-add as two."""
    b, n, d, h, k = 2, 64, 8, 16, 5
    with torch.device("meta"):
        programs: list[tuple[str, nn.Module, Tensor, int]] = [
            (
                "a perceptron of two layers",
                nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, d)),
                torch.ones(b, d),
                2 * b * (d * h + h * d),
            ),
            ("attention", _Attention(), torch.ones(b, 1, n, d, requires_grad=True), 2 * 2 * b * n * n * d),
            (
                "a convolution",
                nn.Conv1d(d, h, k),
                torch.ones(b, d, n),
                2 * b * h * d * k * (n - k + 1),
            ),
            (
                "a Fourier transform",
                _Transform(),
                torch.ones(b, n, requires_grad=True),
                round(2.5 * b * n * math.log2(n)),
            ),
        ]
    checks = []
    for name, program, x, expected in programs:
        found = count_flops(program, (x,)).forward
        checks.append(
            Check(
                "FLOPs",
                name,
                f"{expected:,}",
                f"{found:,}",
                "ok" if found == expected else "failed",
                "FLOPs here are not what the formulas say: use a torch release that lra-bench supports.",
            )
        )
    return checks


def _persistent(check: Callable[[], Check]) -> Check:
    """A fault of the timer is there every time; a disturbance is not."""
    found = check()
    for _ in range(ATTEMPTS - 1):
        if found.status == "ok":
            break
        found = check()
    return found


def _timed(step: Callable[[], object], device: torch.device) -> StepTime:
    timer = StepTimer(step, device=device)
    timer.warm_up(min_seconds=0.1, max_seconds=1.0)
    timer.take(SAMPLES)
    return timer.result()


def _busy() -> bool:
    busy = machine.busy_cores()
    return busy is not None and busy > NOISY_BUSY_SHARE * machine.available_cores()
