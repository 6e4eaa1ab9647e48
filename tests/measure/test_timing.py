"""The timer, on a clock of its own: exact sums, no waiting. And once on the real one."""

import gc
import time
import types

import pytest
import torch

from lra_bench.errors import OptionError, UsageError
from lra_bench.measure import timing
from lra_bench.measure.timing import StepTimer, measure_step_time, pooled


class FakeClock:
    """Wall and processor time that only steps move; the processor works half as long again (two threads)."""

    def __init__(self):
        self.ns = 0

    def namespace(self):
        return types.SimpleNamespace(
            perf_counter_ns=lambda: self.ns,
            process_time_ns=lambda: self.ns * 3 // 2,
            perf_counter=lambda: self.ns / 1e9,
        )

    def steps(self, durations_ms, then_ms):
        """A step function that takes the given times in order and `then_ms` ever after."""
        remaining = list(durations_ms)

        def step():
            self.ns += int((remaining.pop(0) if remaining else then_ms) * 1e6)

        return step


@pytest.fixture
def clock(monkeypatch):
    fake = FakeClock()
    monkeypatch.setattr(timing, "time", fake.namespace())
    monkeypatch.setattr(timing, "busy_cores", lambda: 0.0)
    monkeypatch.setattr(timing, "available_cores", lambda: 2)
    return fake


def test_first_step_and_warm_up_are_no_samples(clock):
    result = measure_step_time(clock.steps([900, 300, 110], 100), min_seconds=1.0)
    assert result.first_step_s == 0.9
    # 900 + 300 + 110 ms reach a second, but only 110 and 100 agree within 10 %.
    assert result.warm_up_steps == 4
    assert result.warmed_up
    assert result.samples_s == [0.1] * 20
    assert result.cpu_samples_s == pytest.approx([0.15] * 20)
    assert result.cpu_median_s == pytest.approx(0.15)
    assert result.device_samples_s is None
    assert not result.noisy


def test_warm_up_lasts_a_second_for_fast_steps(clock):
    result = measure_step_time(clock.steps([], 10))
    assert result.warm_up_steps == 100
    assert len(result.samples_s) == 100  # a second of samples, more than the 20 asked for


def test_slow_steps_end_at_the_cap_but_never_below_five(clock):
    assert len(measure_step_time(clock.steps([], 400)).samples_s) == 13  # 5.2 s
    assert len(measure_step_time(clock.steps([], 8_000)).samples_s) == 5  # 40 s


def test_very_fast_steps_end_at_max_steps(clock):
    assert len(measure_step_time(clock.steps([], 0.1)).samples_s) == 1_000


def test_every_sample_is_kept_in_order_and_the_summary_follows_from_them(clock):
    warm = [125] * 8  # a second exactly
    samples = [120, 100, 101, 99, 100, 102, 98, 100, 300, 100]
    timer = StepTimer(clock.steps(warm + samples, 1))
    timer.warm_up()
    timer.take(10)
    result = timer.result()
    assert result.samples_s == [sample / 1000 for sample in samples]
    assert result.median_s == pytest.approx(0.100)
    assert result.mad_s == pytest.approx(0.001)  # deviations 0 0 0 0 1 1 2 2 20 200 ms
    assert result.min_s == pytest.approx(0.098)
    # Linear between order statistics: 0.45 of the way from 98 to 99; 0.55 from 120 to 300.
    assert result.p05_s == pytest.approx(0.09845)
    assert result.p95_s == pytest.approx(0.219)
    # Ten samples: 2nd smallest to 2nd largest, at 1 - 22/1024.
    assert (result.median_low_s, result.median_high_s) == pytest.approx((0.099, 0.120))
    assert result.interval_level == pytest.approx(1 - 22 / 1024)
    assert result.noisy
    assert "samples vary" in result.noise[0]
    assert result.to_dict()["noisy"] is True


def test_a_busy_machine_is_noted(clock, monkeypatch):
    monkeypatch.setattr(timing, "busy_cores", lambda: 1.5)
    result = measure_step_time(clock.steps([], 100))
    assert result.noise == ["others kept 1.5 of 2 cores busy before the first step"]
    assert result.others_busy_cores == 1.5


def test_steps_that_never_settle_are_noted(clock):
    swinging = [100, 200] * 1_000
    result = measure_step_time(clock.steps(swinging, 100))
    assert not result.warmed_up
    assert result.warm_up_steps == 100
    assert "still changing when warm-up ended" in result.noise


def test_turns_add_up_and_settling_steps_are_left_out(clock):
    timer = StepTimer(clock.steps([125] * 8 + [500, 1, 2, 700, 3, 4], 9))
    timer.warm_up()
    timer.take(2, settle_steps=1)
    timer.take(2, settle_steps=1)
    assert timer.result().samples_s == [0.001, 0.002, 0.003, 0.004]


def test_timings_of_several_processes_are_one_with_all_samples():
    fast = make_step_time([1.0, 1.1, 1.2], first_step_s=9.0, others_busy_cores=None)
    slow = make_step_time([2.0, 2.1], first_step_s=7.0, warmed_up=False, others_busy_cores=0.25)
    both = pooled([fast, slow])
    assert both.samples_s == [1.0, 1.1, 1.2, 2.0, 2.1]
    assert both.cpu_samples_s == both.samples_s
    assert both.device_samples_s is None
    assert both.median_s == 1.2
    assert both.min_s == 1.0
    assert both.first_step_s == 9.0
    assert both.warm_up_steps == 6
    assert not both.warmed_up
    assert both.others_busy_cores == 0.25
    assert any("vary" in reason for reason in both.noise)  # though each of them alone is quiet
    assert not any("vary" in reason for reason in (*fast.noise, *slow.noise))
    with pytest.raises(OptionError, match="results"):
        pooled([])


def make_step_time(samples, *, first_step_s, others_busy_cores, warmed_up=True):
    timer = StepTimer(lambda: None)
    timer._samples, timer._cpu_samples = list(samples), list(samples)
    timer._first_step_s, timer._warm_up_steps, timer._warmed_up = first_step_s, 3, warmed_up
    timer._others_busy = others_busy_cores
    return timer.result()


def test_order_of_calls_is_enforced(clock):
    timer = StepTimer(clock.steps([], 100))
    with pytest.raises(UsageError, match="warm_up"):
        timer.take()
    timer.warm_up()
    with pytest.raises(UsageError, match="no samples"):
        timer.result()


@pytest.mark.parametrize("wrong", [{"min_steps": 0}, {"max_seconds": 0.5}, {"max_steps": 10}])
def test_impossible_limits_are_refused(clock, wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        measure_step_time(clock.steps([], 100), **wrong)


def test_collector_is_off_while_timing_and_back_afterwards(clock):
    seen = []

    def step():
        clock.ns += 10**8
        seen.append((gc.isenabled(), gc.get_freeze_count() > 0))

    assert gc.isenabled()
    measure_step_time(step)
    assert set(seen) == {(False, True)}
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_collector_comes_back_after_an_error(clock):
    def broken():
        raise ValueError("broken step")

    with pytest.raises(ValueError, match="broken step"):
        measure_step_time(broken)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_cycles_of_a_step_do_not_pile_up(clock):
    alive = []

    class Node:
        def __init__(self):
            self.self = self
            alive.append(1)

        def __del__(self):
            alive.pop()

    largest = []

    def step():
        clock.ns += 10**8
        Node()
        largest.append(len(alive))

    measure_step_time(step)
    assert max(largest) == 1


def test_a_real_sleep_takes_at_least_as_long_and_little_processor_time():
    result = measure_step_time(
        lambda: time.sleep(0.005), min_steps=5, min_seconds=0, max_seconds=1, warm_up_min_seconds=0
    )
    assert 0.005 <= result.min_s <= result.median_s
    assert result.cpu_median_s < 0.005
    quick = measure_step_time(lambda: None, min_steps=5, min_seconds=0, max_seconds=1, warm_up_min_seconds=0)
    assert quick.median_s < result.median_s


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_times_the_work_and_not_its_launch():
    x = torch.randn(4_096, 4_096, device="cuda")
    result = measure_step_time(lambda: x @ x, device="cuda", min_seconds=0, warm_up_min_seconds=0.2)
    assert len(result.device_samples_s) == len(result.samples_s)
    # 137 GFLOP in float32 take a millisecond on any device; a launch takes microseconds.
    assert min(result.device_samples_s) > 1e-4
    assert min(result.samples_s) >= min(result.device_samples_s)
