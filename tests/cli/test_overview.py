"""What a person sees of a running sweep, and the time that is left."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from harness import toy_cell
from rich.console import Console

from lra_bench.cli.overview import Overview
from lra_bench.sweep import pace
from lra_bench.sweep.cells import Item
from lra_bench.sweep.engine import Entry
from lra_bench.sweep.pace import time_left_s


def entry(seed: int, model: str = "toy:Mean", **state: object) -> Entry:
    cell = replace(toy_cell(model), seed=seed)
    made = Entry(Item(cell, Path("results"), "cell"), cell)
    for name, value in state.items():
        setattr(made, name, value)
    return made


def test_time_left_follows_what_kin_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace.time, "monotonic", lambda: 1000.0)
    waiting = [entry(1), entry(2, "toy:Plain"), entry(3, state="running", since=996.0)]
    assert time_left_s(waiting, 1) is None, "nothing is known yet"
    mean = entry(0, state="done", status="ok", took_s=10.0)
    assert time_left_s([mean, *waiting], 1) == pytest.approx(10 + 10 + 6), "one model stands for the other"
    plain = entry(0, "toy:Plain", state="done", status="ok", took_s=2.0)
    assert time_left_s([mean, plain, *waiting], 1) == pytest.approx(10 + 2 + 6)
    assert time_left_s([mean, plain, *waiting], 2) == pytest.approx((10 + 2 + 6) / 2)
    failed = entry(5, state="done", status="oom", took_s=900.0)
    assert time_left_s([mean, plain, failed, *waiting], 1) == pytest.approx(10 + 2 + 6)


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Console(file=io.StringIO(), force_terminal=True, width=140)
    overview = Overview(out)
    running = entry(1, state="running")
    entries = [entry(0, state="done", status="ok", took_s=10.0), running, entry(2, state="elsewhere")]
    entries += [entry(3, state="failed", reason="because"), entry(4)]
    overview.watch(entries, 1)
    step = {"event": "step", "step": 3, "steps": 12, "validation_accuracy": 0.625}
    overview.on_worker(running.cell.run_id, step)
    plain = Console(file=io.StringIO(), width=140)
    plain.print(overview)
    shown = plain.file.getvalue()  # type: ignore[attr-defined]
    for text in ("2 of 5 cells", "1 running", "1 elsewhere", "1 not ok", "left"):
        assert text in shown
    assert "toy:Mean on toy:Evens, seed 1" in shown
    assert "step 3 of 12, validation 62.5 %" in shown


def test_where_there_is_none(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        overview = Overview(Console(file=file, width=120))
        one, other = entry(0, state="running"), entry(1)
        overview.watch([one, other], 1)
        with overview:
            overview.on_sweep({"event": "state", "entry": one})
            overview.on_worker(one.cell.run_id, {"event": "warning", "message": "a [strange] warning"})
            one.state, one.status, one.accuracy, one.took_s = "done", "ok", 0.75, 8.0
            overview.on_sweep({"event": "state", "entry": one})
            other.state, other.status, other.reason = "failed", "error", "KeyError: 'x'\nmore"
            overview.on_sweep({"event": "state", "entry": other})
    start, warning, done, failed = (tmp_path / "log").read_text().splitlines()
    assert start == f"start    toy:Mean on toy:Evens, seed 0 ({one.cell.run_id})"
    assert warning == "toy:Mean on toy:Evens, seed 0: a [strange] warning"
    assert "75.0 %, 8.00 s  [1 of 2, about 8 s left]" in done
    assert failed.startswith("error ")
    assert failed.endswith("KeyError: 'x'")
