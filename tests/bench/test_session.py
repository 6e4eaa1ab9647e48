"""Measuring sessions, run for real at tiny sizes: what they leave, how cells end, how they go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lra_bench.bench.group import FEWEST_ROUNDS
from lra_bench.bench.plan import resolve_plan
from lra_bench.bench.records import load_sessions, read_session
from lra_bench.bench.session import run_session
from lra_bench.errors import DataError

TESTS = Path(__file__).parents[1]
SMALL = {"architecture.dim": 8, "architecture.num_heads": 2, "architecture.ffn_dim": 8}


def plan_of(*models, lengths=(16,), **changes):
    arguments = {
        "device": "cpu",
        "batch_size": 2,
        "cell_seconds": 0.1,
        "processes": 1,
        "assignments": SMALL,
    } | changes
    return resolve_plan(models, lengths, **arguments)


@pytest.fixture(scope="module", autouse=True)
def own_models_in_children():
    """The models of ill_mixers are importable in the processes of cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(results, session, events) of two models at two lengths."""
    results, events = tmp_path_factory.mktemp("measured"), []
    plan = plan_of("ill_mixers:Scale", "linformer", lengths=(32, 16), assignments={**SMALL}, processes=2)
    return results, plan, run_session(plan, results, command="a command", on_event=events.append), events


def test_every_model_and_length_has_its_cell(measured):
    _, _, session, events = measured
    assert session.record.complete
    assert session.record.provenance["command"] == "a command"
    assert [cell.status for cell in session.cells] == ["ok"] * 8
    labels = ["transformer", "ill_mixers:Scale", "linformer", "transformer_explicit"]
    assert session.labels == labels
    assert {cell.key for cell in session.cells} == {
        (label, length, False) for label in labels for length in (16, 32)
    }
    assert {cell.model for cell in session.cells if cell.role == "reference"} == {"transformer"}
    assert events[-1]["done"] <= events[-1]["total"] == 8


def test_every_cell_is_timed_in_fresh_processes(measured):
    _, plan, session, _ = measured
    assert session.record.processes == plan.processes == 2
    for cell in session.cells:
        if cell.role == "cell":
            rounds = Counter(cell.turns.process)
            assert sorted(rounds) == [0, 1]
            assert min(rounds.values()) >= 3
        # The first steps of both processes: at least two each before any sample.
        assert cell.step_time.warm_up_steps >= 2 * 2


def test_a_single_process_is_a_choice(tmp_path):
    session = run_session(plan_of("fnet"), tmp_path)
    turns = session.find("fnet", 16, False).turns
    assert set(turns.process) == {0}
    assert len(turns.own_s) >= 5


def test_a_cell_has_everything_that_was_asked_for(measured):
    _, _, session, _ = measured
    cell = session.find("linformer", 32, False)
    assert cell.step_time.session == session.record.session
    assert (cell.step_time.length, cell.step_time.batch_size) == (32, 2)
    assert cell.flops_per_s == pytest.approx(cell.flops.step / cell.step_time.median_s)
    assert cell.parameters.length_dependent > 0
    assert cell.machine.load_average_after is not None
    assert cell.predicted_bytes > 0.5 * cell.peak_memory.peak_bytes
    assert session.find("transformer", 32, False).backend == "fused"
    assert session.find("transformer_explicit", 32, False).backend == "eager"


def test_turns_are_paired_with_those_of_the_reference(measured):
    _, _, session, _ = measured
    for cell in session.cells:
        if cell.role == "reference":
            assert cell.turns is None
            continue
        reference = next(c for c in session.cells if c.role == "reference" and c.group == cell.group)
        assert len(cell.turns.own_s) == len(cell.turns.reference_s) >= FEWEST_ROUNDS
        for seconds, timing in (
            (cell.turns.own_s, cell.step_time),
            (cell.turns.reference_s, reference.step_time),
        ):
            assert min(timing.samples_s) <= min(seconds)
            assert max(seconds) <= max(timing.samples_s)


def test_bytes_and_flops_repeat_exactly_and_a_finished_session_is_kept(measured):
    results, plan, session, _ = measured
    events = []
    again = run_session(plan, results, on_event=events.append)
    assert [event["event"] for event in events] == ["finished"]
    assert again == session
    smaller = plan_of("ill_mixers:Scale", "linformer")
    other = run_session(smaller, results)
    assert other.record.session != session.record.session
    assert len(load_sessions(results)) == 2
    for cell in other.cells:
        same = session.find(*cell.key)
        assert cell.flops == same.flops
        lasting = {"process_peak_bytes"}
        assert cell.peak_memory.model_dump(exclude=lasting) == same.peak_memory.model_dump(exclude=lasting)


@pytest.mark.slow
def test_every_way_to_end_is_a_record_and_harms_nobody(tmp_path):
    ill = {
        "Hanging": ("timeout", "no answer within 8 s"),
        "Killed": ("error", "SIGKILL"),
        "Broken": ("error", "a fault of its own"),
        "Hungry": ("oom", "memory"),
        "Diverging": ("diverged", "not finite"),
        "Recomputing": ("unsupported", "checkpointing"),
        "RecomputingReentrant": ("unsupported", "checkpointing"),
        "Claiming": ("oom", "closed form predicts"),
    }
    plan = plan_of(*(f"ill_mixers:{name}" for name in ill), "ill_mixers:Scale", timeout_s=8.0)
    session = run_session(plan, tmp_path)
    for name, (status, reason) in ill.items():
        cell = session.find(f"ill_mixers:{name}", 16, False)
        assert (cell.status, cell.step_time) == (status, None), name
        assert reason in cell.reason, cell.reason
        assert cell.parameters.core > 0
    for name in ("ill_mixers:Scale", "transformer", "transformer_explicit"):
        assert session.find(name, 16, False).status == "ok"


@pytest.mark.slow
def test_what_did_not_fit_is_not_tried_at_greater_lengths(tmp_path):
    models = ("ill_mixers:Claiming", "ill_mixers:ShortOnly", "ill_mixers:Broken")
    session = run_session(plan_of(*models, lengths=(16, 32)), tmp_path)
    assert "ended as oom at 16 tokens" in session.find("ill_mixers:Claiming", 32, False).reason
    assert session.find("ill_mixers:ShortOnly", 16, False).status == "ok"
    assert session.find("ill_mixers:ShortOnly", 32, False).status == "unsupported"
    assert "a fault of its own" in session.find("ill_mixers:Broken", 32, False).reason, "it is no limit"


@pytest.mark.slow
def test_an_interrupted_session_goes_on_where_it_was(tmp_path):
    command = [sys.executable, "-P", "-m", "lra_bench.cli.main", "bench", "--models", "fnet"]
    command += ["--lengths", "16,24", "--batch-size", "2", "--cell-seconds", "0.5", "--device", "cpu"]
    command += ["--results", str(tmp_path), "--json", "--processes", "1"]
    for key, value in SMALL.items():
        command += ["--set", f"{key}={value}"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    # A suite that was started in the background ignores the signal, and so would what it starts.
    heard = ["env", "--default-signal=INT", *command] if shutil.which("env") else command
    first = subprocess.Popen(heard, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while len(list(tmp_path.rglob("cells/transformer-16-*.json"))) == 0:
        ended = first.poll() is not None or time.monotonic() > deadline
        assert not ended, first.communicate(timeout=5)
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, messages = first.communicate(timeout=30)
    assert first.returncode == 130, messages
    assert b"the same command continues" in messages
    (folder,) = tmp_path.glob("bench/*/*")
    partly = read_session(folder)
    assert not partly.record.complete
    assert len(partly.cells) < 6
    done = {path: path.read_bytes() for path in (folder / "cells").iterdir()}

    second = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=120)
    assert read_session(folder).record.complete
    assert {path: path.read_bytes() for path in done} == done, "finished groups stay as they were"
    rows = json.loads(second.stdout)
    assert {(row["model"], row["length"]) for row in rows} == {
        (model, length) for model in ("fnet", "transformer", "transformer_explicit") for length in (16, 24)
    }
    assert not (folder / "partial").exists()


def test_a_damaged_cell_is_an_error_that_names_it(measured, tmp_path):
    _, _, session, _ = measured
    folder = tmp_path / "damaged"
    (folder / "cells").mkdir(parents=True)
    (folder / "session.json").write_text((session.folder / "session.json").read_text())
    (folder / "cells" / "linformer-16.json").write_text('{"schema": 1')
    with pytest.raises(DataError, match=r"linformer-16\.json"):
        read_session(folder)
