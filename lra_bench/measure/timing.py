"""Step time: every sample kept, and a summary that admits noise.

A step is timed from one synchronisation of the device to the next, gradients and update included if the
step has them. Compare medians only within one measuring session on one machine.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean, median, pstdev
from typing import Any

import numpy as np
import torch

from lra_bench.errors import UsageError, require
from lra_bench.measure.machine import available_cores, busy_cores
from lra_bench.stats import median_interval

NOISY_VARIATION = 0.10
"""Coefficient of variation above which a timing is called noisy."""
NOISY_BUSY_SHARE = 0.2
"""Share of our cores that others kept busy just before the first step, above which a timing is noisy."""
WARM_UP_AGREEMENT = 0.10
MIN_SAMPLES = 5


@dataclass(frozen=True)
class StepTime:
    """Seconds per step. `samples_s` are wall-clock, in order; all else follows from the lists."""

    samples_s: list[float]
    cpu_samples_s: list[float]
    """Processor seconds of this process, all threads, for the same steps: what other load disturbs least."""
    device_samples_s: list[float] | None
    """CUDA: seconds between two events on the device's stream, without the launch of the first kernel."""
    first_step_s: float
    """The very first step, with compilation and allocation. Not a sample."""
    warm_up_steps: int
    """Untimed steps before the samples, the first included."""
    warmed_up: bool
    """False if the last two warm-up steps still differed by more than 10 % when the cap was reached."""
    median_s: float
    median_low_s: float
    median_high_s: float
    interval_level: float
    """Distribution-free interval of the median and the level it reaches (`stats.median_interval`)."""
    mad_s: float
    """Median absolute deviation from the median, unscaled."""
    p05_s: float
    p95_s: float
    min_s: float
    variation: float
    """Standard deviation over mean."""
    cpu_median_s: float
    others_busy_cores: float | None
    """Cores that other processes kept busy just before the first step (`machine.busy_cores`)."""
    noise: list[str]
    """Why these times are suspect; empty if nothing showed."""

    @property
    def noisy(self) -> bool:
        return bool(self.noise)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "noisy": self.noisy}


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given. Nothing to wait for on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class StepTimer:
    """Times one step function, all at once or turn by turn.

    A session that compares models keeps one process per cell and calls `take` in each, round-robin, so that
    a disturbance hits all alike; `result` summarises at the end.

    slowest: for a step that several processes take together: each of the numbers, the largest over them. All
        then see the same seconds, and decide alike.
    """

    def __init__(
        self,
        step: Callable[[], object],
        *,
        device: str | torch.device = "cpu",
        slowest: Callable[[Sequence[float]], list[float]] = list,
    ) -> None:
        self._step = step
        self._slowest = slowest
        self._device = torch.device(device)
        self._samples: list[float] = []
        self._cpu_samples: list[float] = []
        self._device_samples: list[float] = []
        self._first_step_s: float | None = None
        self._warm_up_steps = 0
        self._warmed_up = False
        self._others_busy = busy_cores()

    @property
    def samples(self) -> int:
        return len(self._samples)

    @property
    def samples_s(self) -> list[float]:
        """Seconds of the steps taken so far, in order."""
        return list(self._samples)

    def warm_up(
        self, *, min_steps: int = 3, min_seconds: float = 1.0, max_steps: int = 100, max_seconds: float = 30.0
    ) -> None:
        """Steps until at least `min_steps` and `min_seconds`, and until two in a row agree within 10 %.

        Gives up waiting for agreement at `max_steps` or `max_seconds`; the result says so.
        """
        require(2 <= min_steps <= max_steps, "min_steps", min_steps, f"from 2 to max_steps={max_steps}")
        seconds: list[float] = []
        with frozen_collector():
            while True:
                seconds.append(self._timed_step()[0])
                self._warm_up_steps += 1
                if len(seconds) < min_steps:
                    continue
                slow, fast = max(seconds[-2:]), min(seconds[-2:])
                self._warmed_up = slow <= (1 + WARM_UP_AGREEMENT) * fast
                if self._warmed_up and sum(seconds) >= min_seconds:
                    break
                spent = sum(seconds)
                if spent >= max_seconds or (len(seconds) >= max_steps and spent >= min_seconds):
                    break
        if self._first_step_s is None:
            self._first_step_s = seconds[0]

    def take(self, steps: int = 1, *, settle_steps: int = 0) -> None:
        """Times `steps` steps, after `settle_steps` untimed ones (caches are cold after a pause)."""
        if self._first_step_s is None:
            raise UsageError("StepTimer.take: nothing is warm yet. Call warm_up() first.")
        require(steps >= 1, "steps", steps, "at least 1")
        with frozen_collector():
            for _ in range(settle_steps):
                self._timed_step()
            for _ in range(steps):
                self._sample()

    def take_until_enough(
        self, *, min_steps: int, min_seconds: float, max_seconds: float, max_steps: int
    ) -> None:
        """Times steps under the stopping rule of `measure_step_time`."""
        start = time.perf_counter()
        with frozen_collector():
            while True:
                self._sample()
                (elapsed,) = self._slowest([time.perf_counter() - start])
                enough = self.samples >= min_steps and elapsed >= min_seconds
                spent = elapsed >= max_seconds and self.samples >= min(MIN_SAMPLES, min_steps)
                if enough or spent or self.samples >= max_steps:
                    return

    def result(self) -> StepTime:
        """Summary of the samples so far."""
        if not self._samples or self._first_step_s is None:
            raise UsageError("StepTimer.result: no samples yet. Call warm_up() and take() first.")
        return _summary(
            samples=self._samples,
            cpu_samples=self._cpu_samples,
            device_samples=self._device_samples,
            first_step_s=self._first_step_s,
            warm_up_steps=self._warm_up_steps,
            warmed_up=self._warmed_up,
            others_busy=self._others_busy,
        )

    def _sample(self) -> None:
        wall, cpu, on_device = self._timed_step()
        self._samples.append(wall)
        self._cpu_samples.append(cpu)
        if on_device is not None:
            self._device_samples.append(on_device)

    def _timed_step(self) -> tuple[float, float, float | None]:
        """Wall seconds, processor seconds, and seconds on the device's stream where it has events."""
        device = self._device
        # Cycles of the step before: cheap, as all older objects are frozen, and without it a model
        # that makes cycles would pile up activations.
        gc.collect()
        on_cuda = device.type == "cuda"
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if on_cuda else []
        stream = torch.cuda.current_stream(device) if on_cuda else None
        synchronise(device)
        cpu_start, start = time.process_time_ns(), time.perf_counter_ns()
        if on_cuda:
            events[0].record(stream)
        self._step()
        if on_cuda:
            events[1].record(stream)
        synchronise(device)
        end, cpu_end = time.perf_counter_ns(), time.process_time_ns()
        on_device = events[0].elapsed_time(events[1]) / 1e3 if on_cuda else None
        found = [(end - start) / 1e9, (cpu_end - cpu_start) / 1e9, on_device or 0.0]
        wall, cpu, longest_on_device = self._slowest(found)
        return wall, cpu, None if on_device is None else longest_on_device


def pooled(results: Sequence[StepTime]) -> StepTime:
    """Timings of the same step in several processes as one: all samples, in the order of the processes.

    The first step is that of the first process; of `others_busy_cores` the largest counts, and `warmed_up` is
    true only if it is for each.
    """
    require(bool(results), "results", 0, "at least one timing")
    busy = [one.others_busy_cores for one in results if one.others_busy_cores is not None]
    return _summary(
        samples=[sample for one in results for sample in one.samples_s],
        cpu_samples=[sample for one in results for sample in one.cpu_samples_s],
        device_samples=[sample for one in results for sample in one.device_samples_s or []],
        first_step_s=results[0].first_step_s,
        warm_up_steps=sum(one.warm_up_steps for one in results),
        warmed_up=all(one.warmed_up for one in results),
        others_busy=max(busy, default=None),
    )


def _summary(
    *,
    samples: list[float],
    cpu_samples: list[float],
    device_samples: list[float],
    first_step_s: float,
    warm_up_steps: int,
    warmed_up: bool,
    others_busy: float | None,
) -> StepTime:
    middle = median(samples)
    interval = median_interval(samples)
    variation = pstdev(samples) / fmean(samples)
    return StepTime(
        samples_s=list(samples),
        cpu_samples_s=list(cpu_samples),
        device_samples_s=list(device_samples) or None,
        first_step_s=first_step_s,
        warm_up_steps=warm_up_steps,
        warmed_up=warmed_up,
        median_s=middle,
        median_low_s=interval.low,
        median_high_s=interval.high,
        interval_level=interval.level,
        mad_s=median(abs(sample - middle) for sample in samples),
        p05_s=float(np.quantile(samples, 0.05)),
        p95_s=float(np.quantile(samples, 0.95)),
        min_s=min(samples),
        variation=variation,
        cpu_median_s=median(cpu_samples),
        others_busy_cores=others_busy,
        noise=_noise(variation, warmed_up, others_busy),
    )


def _noise(variation: float, warmed_up: bool, others_busy: float | None) -> list[str]:
    noise = []
    if variation > NOISY_VARIATION:
        noise.append(f"samples vary by {variation:.0%}, over {NOISY_VARIATION:.0%}")
    cores = available_cores()
    if others_busy is not None and others_busy > NOISY_BUSY_SHARE * cores:
        noise.append(f"others kept {others_busy:.1f} of {cores} cores busy before the first step")
    if not warmed_up:
        noise.append("still changing when warm-up ended")
    return noise


def measure_step_time(
    step: Callable[[], object],
    *,
    device: str | torch.device = "cpu",
    min_steps: int = 20,
    min_seconds: float = 1.0,
    max_seconds: float = 5.0,
    max_steps: int = 1_000,
    warm_up_min_steps: int = 3,
    warm_up_min_seconds: float = 1.0,
    warm_up_max_seconds: float = 30.0,
    slowest: Callable[[Sequence[float]], list[float]] = list,
) -> StepTime:
    """Warms up, then times `step` until there are `min_steps` samples over at least `min_seconds`.

    Slow steps end at `max_seconds`, but never with fewer than five samples (or `min_steps`, if that is
    less); very fast ones at `max_steps`. The batch should be on the device already: loading it is not
    part of a step. `slowest` is as for `StepTimer`.
    """
    require(min_steps >= 1, "min_steps", min_steps, "at least 1")
    require(max_steps >= min_steps, "max_steps", max_steps, f"at least min_steps={min_steps}")
    require(max_seconds >= min_seconds, "max_seconds", max_seconds, f"at least min_seconds={min_seconds}")
    timer = StepTimer(step, device=device, slowest=slowest)
    timer.warm_up(
        min_steps=warm_up_min_steps, min_seconds=warm_up_min_seconds, max_seconds=warm_up_max_seconds
    )
    timer.take_until_enough(
        min_steps=min_steps, min_seconds=min_seconds, max_seconds=max_seconds, max_steps=max_steps
    )
    return timer.result()


class _Collector:
    frozen = False
    """By `frozen_collector`; asking the collector itself takes as long as freezing."""


@contextmanager
def frozen_collector() -> Iterator[None]:
    """No garbage collection between samples; what exists already is not scanned later either.

    Within another one it does nothing. One that takes turns holds it throughout: to freeze anew
    scans all of torch, a quarter of a second that would pass between the turns of a comparison.
    """
    if _Collector.frozen:
        yield
        return
    _Collector.frozen = True
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        _Collector.frozen = False
        gc.unfreeze()
        if was_enabled:
            gc.enable()
