"""Real processes on one device: those that measure are alone, the others make way and come back."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import toy_cell, work

from lra_bench.device_lock import FOLDER_VARIABLE, GaveUpError, exclusive, lock_name, shared
from lra_bench.errors import DataError
from lra_bench.step_metrics import StepMetrics
from lra_bench.train import StoppedError

START = """
import sys, subprocess, time
from lra_bench.device_lock import exclusive, shared
def say(*words):
    print(*words, flush=True)
def listen():
    return sys.stdin.readline().strip()
"""
ALONE = """
with exclusive("cpu", on_wait=lambda: say("waits")):
    say("alone")
    listen()
say("done")
"""
TOGETHER = """
with shared("cpu", on_wait=lambda: say("waits")) as device:
    say("together")
    while listen() == "step":
        say("paused" if device.pause_if_asked() > 0 else "went on")
"""
TIMED = """
for _ in range(3):
    with exclusive("cpu"):
        start = time.monotonic_ns()
        time.sleep(0.02)
        say(start, time.monotonic_ns())
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "locks"))


class Process:
    """A Python process that is told what to do, and tells what it does, line by line."""

    def __init__(self, code: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-c", START + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line.strip())

    def hear(self) -> str:
        """The next line; queue.Empty where none comes, so that a deadlock is a failure and not a wait."""
        return self._lines.get(timeout=30)

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def tell(self, word: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(word + "\n")
        self.popen.stdin.flush()


@contextlib.contextmanager
def process(code: str) -> Iterator[Process]:
    one = Process(code)
    try:
        yield one
    finally:
        one.end()


def test_who_measures_waits_until_the_others_make_way_and_they_come_back() -> None:
    with process(TOGETHER) as first, process(TOGETHER) as second:
        assert (first.hear(), second.hear()) == ("together", "together")
        for one in (first, second):
            one.tell("step")
            assert one.hear() == "went on"
        with process(ALONE) as measuring:
            assert measuring.hear() == "waits"
            first.tell("step")
            assert first.hear() == "waits"
            # The second is still in its step, so nobody is alone yet.
            with pytest.raises(BlockingIOError):
                _try_alone("lock")
            second.tell("step")
            assert second.hear() == "waits"
            assert measuring.hear() == "alone"
            with process(TOGETHER) as late:
                assert late.hear() == "waits", "who comes now waits too"
                measuring.tell("end")
                assert late.hear() == "together"
        assert (first.hear(), second.hear()) == ("paused", "paused")
        first.tell("step")
        assert first.hear() == "went on"


def test_who_ends_instead_of_making_way_is_not_waited_for() -> None:
    with process(TOGETHER) as first, process(TOGETHER) as second:
        assert (first.hear(), second.hear()) == ("together", "together")
        with process(ALONE) as measuring:
            assert measuring.hear() == "waits"
            first.tell("end")
            second.popen.kill()
            assert measuring.hear() == "alone"


@pytest.mark.parametrize(("code", "word"), [(TOGETHER, "together"), (ALONE, "alone")])
def test_a_killed_holder_blocks_nobody(code: str, word: str) -> None:
    with process(ALONE) as measuring:
        assert measuring.hear() == "alone"
        with process(code) as other:
            assert other.hear() == "waits"
            measuring.popen.kill()
            assert other.hear() == word


def test_those_who_measure_take_turns() -> None:
    with process(TIMED) as first, process(TIMED) as second, process(TIMED) as third:
        times = [tuple(map(int, one.hear().split())) for one in (first, second, third) for _ in range(3)]
    times.sort()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_within_the_processes_of_who_is_alone_nothing_is_taken() -> None:
    nested = 'with exclusive("cpu"), shared("cpu") as device:\n    say(device.pause_if_asked())\n'
    with exclusive("cpu"):
        with exclusive("cpu"), shared("cpu") as device:
            assert device.pause_if_asked() == 0
        with process(nested) as child:
            assert child.hear() == "0.0"
    with process(ALONE) as after:
        assert after.hear() == "alone"


def test_a_wait_can_be_given_up() -> None:
    asked: list[bool] = []

    def give_up() -> bool:
        asked.append(True)
        return len(asked) > 2

    with shared("cpu", give_up=lambda: True) as device, process(ALONE) as measuring:
        assert measuring.hear() == "waits"
        assert device.pause_if_asked() > 0, "it made way and did not wait"
        assert measuring.hear() == "alone"
        for turn in (exclusive, shared):
            asked.clear()
            with pytest.raises(GaveUpError), turn("cpu", give_up=give_up):
                pass


def test_devices_do_not_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lock_name("cpu") == "cpu"
    with process(ALONE) as measuring:
        assert measuring.hear() == "alone"
        with exclusive("mps"):
            pass


def test_a_folder_that_can_not_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "locks"))
    with pytest.raises(DataError, match=FOLDER_VARIABLE), exclusive("cpu"):
        pass


class Measuring:
    """Events of a cell; at the first one that matters somebody wants the device, until the cell waits."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.seen: list[str] = []
        self.other: Process | None = None

    def append(self, event: dict[str, object]) -> None:
        name = str(event.get("phase", event["event"]))
        self.seen.append(name)
        if name == self.at and self.other is None:
            self.other = Process(ALONE)
            assert self.other.hear() == "waits"
        elif name == "wait for the device" and self.other is not None:
            assert self.other.hear() == "alone"
            self.other.tell("end")
            assert self.other.hear() == "done"


@pytest.mark.parametrize("at", ["flops", "step"])
def test_a_cell_makes_way(tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepMetrics, "time", lambda _: None)  # takes seconds, and is not what this is about
    events = Measuring(at)
    try:
        record = work(toy_cell(metrics=("accuracy", "time", "flops")), tmp_path, events=events)  # type: ignore[arg-type]
    finally:
        assert events.other is not None
        events.other.end()
    assert record.status == "ok"
    following = events.seen[events.seen.index(at) + 1 :]
    assert "wait for the device" in following
    if at == "flops":
        assert following.index("wait for the device") < following.index("time"), "it measures after the other"


def test_a_cell_that_waits_for_its_turn_can_be_stopped(tmp_path: Path) -> None:
    seen: list[object] = []
    with process(TOGETHER) as other:
        assert other.hear() == "together"
        with pytest.raises(StoppedError):
            work(
                toy_cell(metrics=("time",)),
                tmp_path,
                should_stop=lambda: {"event": "phase", "phase": "wait for the device"} in seen,
                events=seen,  # type: ignore[arg-type]
            )


def _try_alone(kind: str) -> None:
    import fcntl

    with (Path(os.environ[FOLDER_VARIABLE]) / f"cpu.{kind}").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
