"""What cells will take: closed forms beside counts, and times that records correct."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from harness import toy_cell

from lra_bench.cell import resolve_cell
from lra_bench.records import RunRecord
from lra_bench.report import estimate
from lra_bench.report.estimate import counted_step_flops
from lra_bench.report.forecast import Forecaster


@pytest.mark.parametrize("task", ["listops", "pathfinder"])
@pytest.mark.parametrize("model", ["transformer", "linformer", "performer", "bigbird", "groupbert", "s4d"])
def test_closed_forms_are_near_what_is_counted(model: str, task: str) -> None:
    cell = resolve_cell(model, task, device="cpu")
    told = Forecaster()(cell).step_flops
    counted = counted_step_flops(cell)
    assert told is not None
    assert counted is not None
    assert 0.7 < told / counted < 1.3


def record(base: RunRecord, steps: int, seconds: int, **changes: Any) -> RunRecord:
    budget = base.protocol.settings.budget.model_copy(update={"steps": steps})
    settings = base.protocol.settings.model_copy(update={"budget": budget})
    return base.model_copy(
        update={
            "protocol": base.protocol.model_copy(update={"settings": settings}),
            "provenance": {
                "started": "2026-01-01T00:00:00+00:00",
                "finished": f"2026-01-01T00:00:{seconds:02}+00:00",
            },
            **changes,
        }
    )


def test_records_of_the_same_model_and_task_here_correct_the_time(
    base: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "matmul_flops_per_s", lambda _: 1e9)
    cell = toy_cell(assignments={"budget.steps": 30})
    plain = Forecaster()(cell)
    assert not plain.from_records
    assert plain.time_s == pytest.approx(30 * ((plain.step_flops or 0) / 5e8 + estimate.OVERHEAD_S))

    told = Forecaster([record(base, 10, 2), record(base, 20, 8), record(base, 10, 3)])(cell)
    assert told.from_records
    assert told.time_s == pytest.approx(30 * 0.3), "the median of 0.2, 0.4 and 0.3 s a step"
    twice = toy_cell(assignments={"budget.steps": 30, "budget.batch_size": 32})
    assert Forecaster([record(base, 10, 2)])(twice).time_s == pytest.approx(30 * 0.4)
    for elsewhere in (
        record(base, 10, 2, device="another"),
        record(base, 10, 2, status="diverged"),
        record(base, 10, 2, model=base.model.model_copy(update={"name": "toy:Plain"})),
    ):
        assert not Forecaster([elsewhere])(cell).from_records


def test_what_seeds_share_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from lra_bench.report import forecast

    calls = []
    real = forecast.count_parameters
    monkeypatch.setattr(forecast, "count_parameters", lambda *given: calls.append(given) or real(*given))
    forecaster = Forecaster()
    cell = toy_cell()
    first = forecaster(cell)
    assert all(forecaster(replace(cell, seed=seed)) == first for seed in range(20))
    assert len(calls) == 1
    assert first.peak_bytes is not None


def test_what_is_not_trained_takes_no_time() -> None:
    cell = toy_cell(metrics=("flops",))
    assert Forecaster()(cell).time_s is None, "nothing is trained"
