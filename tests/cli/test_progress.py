"""What a person sees while a cell runs: bars on a terminal, whole lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest

from lra_bench.cli.progress import RunReporter, SessionReporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steps(count: int, evaluated_every: int = 10) -> list[dict[str, Any]]:
    return [
        {
            "event": "step",
            "step": step,
            "steps": count,
            "loss": 1 / step,
            "elapsed_s": step * 0.5,
            "evaluated": step % evaluated_every == 0,
            "validation_accuracy": 0.25,
        }
        for step in range(1, count + 1)
    ]


def test_a_terminal_gets_one_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    with RunReporter(stream) as reporter:
        reporter.label = "linformer"
        reporter({"event": "phase", "phase": "train"})
        for event in steps(20):
            reporter(event)
            assert reporter.bar is not None
            reporter.bar.refresh()
    shown = stream.getvalue()
    assert "linformer: training:  50%" in shown
    assert "20/20" in shown
    assert "loss 0.100, validation 25.0 %" in shown
    assert reporter.bar is None, "closed at the end"


def test_preparing_and_training_are_two_bars() -> None:
    reporter = RunReporter(Terminal())
    reporter({"event": "prepare", "split": "train", "done": 1, "total": 2})
    first = reporter.bar
    reporter({"event": "prepare", "split": "train", "done": 2, "total": 2})
    assert reporter.bar is first
    reporter({"event": "prepare", "split": "test", "done": 1, "total": 2})
    assert reporter.bar is not first


def test_elsewhere_lines_are_few_and_say_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 2))  # two seconds a step
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with RunReporter(stream) as reporter:
        reporter.label = "linformer"
        for event in steps(40, evaluated_every=20):
            reporter(event)
    lines = stream.getvalue().splitlines()
    assert 5 <= len(lines) <= 12
    assert lines[-1] == "linformer: training 40 of 40, loss 0.025, validation 25.0 %, 2 steps/s"
    assert any("training 20 of 40, loss 0.050, validation 25.0 %, 2 steps/s, 10.0 s left" in x for x in lines)


def test_events_it_does_not_know_are_ignored() -> None:
    stream = io.StringIO()
    RunReporter(stream)({"event": "something new"})
    assert stream.getvalue() == ""


def session_event(**changes: Any) -> dict[str, Any]:
    event = {"event": "cell", "done": 3, "total": 9, "model": "fnet", "length": 1024, "compiled": True}
    return {**event, "what": "round 2", "reason": None, "left_s": 75.0, **changes}


def test_a_session_says_what_it_measures_and_how_long_it_will_take() -> None:
    stream = io.StringIO()
    with SessionReporter(stream) as reporter:
        reporter(session_event())
        reporter(session_event(what="round 3"))  # too soon for another line
        reporter(session_event(what="oom", reason="it is too big"))
        reporter({"event": "wait"})
        reporter({"event": "finished", "session": "20260101"})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "3 of 9 cells, fnet 1,024 compiled: round 2, about 1 min 15 s left"
    assert lines[1] == "fnet 1,024 compiled: oom (it is too big)"
    assert "waiting" in lines[2]
    assert "--new" in lines[3]
    assert len(lines) == 4


def test_a_session_on_a_terminal_moves_one_bar() -> None:
    stream = Terminal()
    with SessionReporter(stream) as reporter:
        for done in (0, 4, 9):
            reporter(session_event(done=done))
            assert reporter.bar is not None
            assert (reporter.bar.n, reporter.bar.total) == (done, 9)
    assert reporter.bar is None
    assert "fnet 1,024 compiled: round 2" in stream.getvalue()
