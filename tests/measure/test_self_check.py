"""The self-check passes where instruments work, and names the one that does not."""

import json

import pytest
import torch
from typer.testing import CliRunner

from lra_bench.cli.main import app
from lra_bench.measure import flops, memory, self_check, timing
from lra_bench.measure.self_check import check_flops, check_scores, check_sleep, check_vectors

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def a_quiet_machine(monkeypatch):
    """Whether products take twice as long is for a machine to say that does nothing else meanwhile."""
    monkeypatch.setattr(self_check, "DOUBLE", (0.0, 1e9))
    monkeypatch.setattr(self_check, "SLEEP_EXCESS", 1e3)
    monkeypatch.setattr(self_check, "_busy", lambda: False)


def failed(checks):
    return {check.instrument for check in checks if check.status == "failed"}


def test_working_instruments_pass_and_the_command_shows_them():
    done = CliRunner().invoke(app, ["env", "--check", "--json"])
    rows = json.loads(done.output)
    assert [row["status"] for row in rows] == ["ok"] * len(rows)
    assert {row["instrument"] for row in rows} == {"timer", "memory", "FLOPs"}
    assert done.exit_code == 0
    assert "explicit attention" in CliRunner().invoke(app, ["env", "--check"]).output


def test_a_timer_that_runs_slow_is_caught(monkeypatch):
    class Slow:
        def __getattr__(self, name):
            real = getattr(timing_clock, name)
            return (lambda: real() // 2) if name.endswith("_ns") else real

    timing_clock = timing.time
    monkeypatch.setattr(timing, "time", Slow())
    assert check_sleep().status == "failed"
    done = CliRunner().invoke(app, ["env", "--check"])
    assert done.exit_code == 1
    assert "can't be trusted" in " ".join(done.output.split())


def test_a_late_sleep_fails_on_a_quiet_machine_and_is_noise_on_a_busy_one(monkeypatch):
    monkeypatch.setattr(self_check, "SLEEP_EXCESS", 1.0)
    assert check_sleep().status == "failed"
    monkeypatch.setattr(self_check, "_busy", lambda: True)
    assert check_sleep().status == "noisy"


def test_a_meter_that_loses_allocations_is_caught(monkeypatch):
    real = memory._allocation_events
    monkeypatch.setattr(memory, "_allocation_events", lambda profiler: real(profiler)[2:])
    assert failed([check_vectors(CPU), check_scores(CPU)]) == {"memory"}


def test_a_formula_off_by_two_is_caught(monkeypatch):
    aten = torch.ops.aten
    real = flops._FORMULAS[aten.convolution]

    def doubled(*args, **kwargs):
        return 2 * real(*args, **kwargs)

    doubled._get_raw = True
    monkeypatch.setitem(flops._FORMULAS, aten.convolution, doubled)
    assert [check.against for check in check_flops() if check.status == "failed"] == ["a convolution"]
