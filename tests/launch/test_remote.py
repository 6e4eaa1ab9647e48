"""What runs on the other machine: what travels, and how it ends when it is told to."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from standins import TARGET, work

from lra_bench.launch import stop_file
from lra_bench.launch.launcher import Work
from lra_bench.launch.remote import Payload, RemoteCell, has_started, payload, run_there

pytest.importorskip("submitit", reason="no submitit")


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_file, "LOOK_EVERY_S", 0.05)


def content(results: Path, command: str) -> Payload:
    return payload(work(results, 0, command), results / "x.stop", TARGET)


def soon(results: Path, action: object) -> threading.Thread:
    """Calls `action` once the cell has begun."""

    def wait_and_act() -> None:
        while not list(results.glob("*.began")):
            time.sleep(0.01)
        action()  # type: ignore[operator]

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def test_the_payload_is_json_and_names_no_class_of_torch(tmp_path: Path) -> None:
    sent = content(tmp_path, "done")
    assert json.loads(json.dumps(sent)) == sent
    pickled = pickle.dumps((RemoteCell(), sent))
    strings = {value for _, value, _ in pickletools.genops(pickled) if isinstance(value, str)}
    assert {name for name in strings if name.startswith(("torch", "lra_bench."))} == {
        "lra_bench.launch.remote"
    }
    assert Work.from_json(sent["work"]) == work(tmp_path, 0, "done")


def test_paths_are_whole_and_the_device_is_any_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = work(Path("here"), 0, "done")
    one = replace(one, cell=replace(one.cell, device="cuda:3"))
    sent = payload(one, Path("here/x.stop"))
    assert sent["work"]["results"] == str(tmp_path / "here")
    assert sent["stop_file"] == str(tmp_path / "here" / "x.stop")
    assert sent["work"]["cell"]["device"] == "cuda"
    assert Work.from_json(sent["work"]).cell.run_id == one.cell.run_id


def test_the_nodes_own_settings_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRA_BENCH_CACHE", "/login/cache")
    monkeypatch.setenv("LRA_BENCH_DATA", "/login/data")
    sent = content(tmp_path, "done")
    monkeypatch.setenv("LRA_BENCH_CACHE", "/node/cache")
    monkeypatch.delenv("LRA_BENCH_DATA")
    run_there(sent)
    assert (os.environ["LRA_BENCH_CACHE"], os.environ["LRA_BENCH_DATA"]) == ("/node/cache", "/login/data")


@pytest.mark.parametrize(
    ("command", "state", "message"),
    [
        ("done", "done", ""),
        ("fail", "failed", "no such data"),
        ("raise", "failed", "KeyError"),
        ("elsewhere", "elsewhere", ""),
    ],
)
def test_the_outcome_comes_home(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str, state: str, message: str
) -> None:
    sent = content(tmp_path, command)
    outcome = run_there(sent)
    assert outcome["state"] == state
    assert message in outcome["message"]
    log = capfd.readouterr().err
    run_id = work(tmp_path, 0, command).cell.run_id
    assert outcome["run_id"] == run_id
    assert has_started(log, run_id)
    assert not has_started(log, "another")


def test_the_stop_file_lets_a_cell_save(tmp_path: Path) -> None:
    thread = soon(tmp_path, (tmp_path / "x.stop").touch)
    outcome = run_there(content(tmp_path, "wait 30"))
    thread.join()
    assert outcome["state"] == "stopped"
    assert list(tmp_path.glob("*.saved"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_cell_save_and_be_submitted_again(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    thread = soon(tmp_path, lambda: os.kill(os.getpid(), number))
    outcome = run_there(content(tmp_path, "wait 30"))
    thread.join()
    assert outcome["state"] == "lost", "nobody asked the sweep to stop"
    assert number.name in outcome["message"]
    assert list(tmp_path.glob("*.saved"))
    assert signal.getsignal(number) is before


def test_preempted_it_saves_and_gives_the_same_work(tmp_path: Path) -> None:
    cell, sent = RemoteCell(), content(tmp_path, "wait 30")
    again: list[object] = []
    thread = soon(tmp_path, lambda: again.append(cell.checkpoint(sent)))
    cell(sent)
    thread.join()
    assert list(tmp_path.glob("*.saved"))
    (submission,) = again
    assert submission.args == (sent,)  # type: ignore[attr-defined]
    assert isinstance(submission.function, RemoteCell)  # type: ignore[attr-defined]


def test_a_node_that_may_not_queue_jobs_leaves_that_to_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_scontrol(*_: object) -> None:
        raise FileNotFoundError(2, "No such file", "scontrol")

    before = signal.signal(signal.SIGUSR2, no_scontrol)  # as submitit's handler ends there
    try:
        thread = soon(tmp_path, lambda: os.kill(os.getpid(), signal.SIGUSR2))
        outcome = run_there(content(tmp_path, "wait 1"))
        thread.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert outcome["state"] == "lost"
    assert "scontrol" in outcome["message"]
