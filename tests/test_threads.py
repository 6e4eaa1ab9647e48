"""Training may have fewer threads; a timed step has all cores, unless the user chose otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness import toy_cell

from lra_bench import threads
from lra_bench.job import Job
from lra_bench.phases import CellRun
from lra_bench.step_metrics import StepMetrics
from lra_bench.threads import timing_threads, use_training_threads


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 3)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_training_has_what_was_chosen_then_the_users_word_then_all_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    use_training_threads(None)
    assert torch.get_num_threads() == 1
    use_training_threads(2)
    assert torch.get_num_threads() == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_training_threads(None)
    assert torch.get_num_threads() == 3


def test_timing_has_all_cores_where_a_sweep_chose_for_training() -> None:
    torch.set_num_threads(1)
    for chosen, expected in ((None, 1), (1, 3)):
        with timing_threads(chosen) as number:
            assert number == torch.get_num_threads() == expected
        assert torch.get_num_threads() == 1


def test_a_record_says_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(StepMetrics, "time", lambda _: seen.append(torch.get_num_threads()))
    torch.set_num_threads(1)
    cell = toy_cell(metrics=("accuracy", "time"))
    record = CellRun(Job(cell, tmp_path, threads=1), lambda _: None, lambda: False).run()
    assert seen == [3]
    assert (record.environment["threads"], record.environment["timing_threads"]) == (1, 3)
