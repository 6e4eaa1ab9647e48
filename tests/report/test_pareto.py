"""Fronts by hand, and what may stand on one."""

from __future__ import annotations

import random

from synthetic_session import cell, session

from lra_bench.report.pareto import Trade, pareto_front, trades
from lra_bench.report.scoring import Summary, TaskScore


def trade(label: str, accuracy: float, time: float, memory: float = 1.0) -> Trade:
    return Trade(label, accuracy, accuracy, accuracy, 1, time, memory)


def score(task: str, mean: float | None) -> TaskScore:
    summary = None if mean is None else Summary(mean, mean, mean, 1)
    return TaskScore(task, task, "", summary, "ok" if summary else "oom", 0, "", "", ())


def test_a_front_counted_by_hand() -> None:
    models = [
        trade("slow and good", 0.9, 4.0),
        trade("fast and poor", 0.5, 0.1),
        trade("beaten in both", 0.6, 2.0),
        trade("middle", 0.7, 1.0),
        trade("as slow as middle, poorer", 0.6, 1.0),
        trade("slower than middle, as good", 0.7, 1.5),
    ]
    random.Random(0).shuffle(models)
    found = [one.label for one in pareto_front(models, "time")]
    assert found == ["fast and poor", "middle", "slow and good"]


def test_the_front_of_memory_is_another() -> None:
    models = [trade("a", 0.9, 1.0, 3.0), trade("b", 0.8, 2.0, 1.0)]
    assert [one.label for one in pareto_front(models, "time")] == ["a"]
    assert [one.label for one in pareto_front(models, "memory")] == ["b", "a"]


def test_only_what_is_scored_and_measured_can_stand_on_it() -> None:
    measured = session(
        [
            cell("transformer", 64, own_s=1.0, peak_bytes=100),
            cell("linformer", 64, own_s=0.5, reference_s=1.0, peak_bytes=50),
            cell("performer", 64, status="oom"),
        ]
    )
    scored = [
        ("transformer", [score("text", 0.6), score("image", 0.4)]),
        ("linformer", [score("text", 0.5), score("image", None)]),
        ("performer", [score("text", 0.9), score("image", 0.9)]),
        ("never measured", [score("text", 0.9), score("image", 0.9)]),
    ]
    found = trades(scored, measured, compiled=False)
    assert {task: [one.label for one in models] for task, models in found.items()} == {
        "text": ["transformer", "linformer"],
        "image": ["transformer"],
    }
    assert (found["text"][1].time, found["text"][1].memory) == (0.5, 0.5)
