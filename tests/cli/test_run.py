"""`lra-bench run` as a user meets it: processes, exit codes, signals, continuing, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calling import Call
from harness import write_protocol
from killing import CHECKPOINT, kill_at, lasting

from lra_bench.record_store import load_records, read_record
from lra_bench.records import RunRecord
from lra_bench.report.leaderboard import leaderboard

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "LRA_BENCH_CACHE": str(tmp_path_factory.getbasetemp() / "toy-cache"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def here(lra: Call, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command in this process, its workers in theirs."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return lra


def words(protocol: Path, results: Path, *extra: str, model: str = "toy:Mean") -> list[str]:
    names = ["--model", model, "--task", "toy:Evens", "--protocol", str(protocol), "--device", "cpu"]
    return ["run", *names, "--results", str(results), *extra]


def command(protocol: Path, results: Path, *extra: str, model: str = "toy:Mean") -> list[str]:
    return [sys.executable, "-P", "-m", "lra_bench", *words(protocol, results, *extra, model=model)]


def call(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_one_cell_end_to_end(tmp_path: Path, environment: dict[str, str], here: Call) -> None:
    protocol, results = write_protocol(tmp_path), tmp_path / "results"
    first = call(command(protocol, results, "--set", "model.gain=2"), environment)
    assert first.returncode == 0, first.stderr
    record = load_records(results)[0]
    assert record.model.options == {"gain": 2.0}
    assert record.provenance["command"].endswith("--set model.gain=2")
    for text in ("Test accuracy", "Step time", "Peak memory", "FLOPs", "Parameters", "Chance"):
        assert text in first.stdout
    path = next((results / "runs").rglob("*.json"))
    assert first.stdout.strip().splitlines()[-1] == f"Record: {path}", "the record's path is last"
    assert "training 12 of 12" in first.stderr, "plain lines where there is no terminal"
    assert "\x1b[" not in first.stdout + first.stderr, "no colours where there is no terminal"

    before = path.read_bytes()
    again = here(*words(protocol, results, "--set", "model.gain=2", "--json"))
    assert again.code == 0
    assert json.loads(again.out)[0]["run_id"] == record.run_id, "JSON alone on stdout"
    assert "already finished" in again.err
    assert path.read_bytes() == before


def test_an_own_model_in_the_working_folder(tmp_path: Path, environment: dict[str, str]) -> None:
    """A researcher's file, without packaging, and a folder `lra_bench` that is not this package."""
    (tmp_path / "mine.py").write_text("from toy import Mean\n\n\nclass Mine(Mean):\n    'My own.'\n")
    (tmp_path / "lra_bench").mkdir()
    (tmp_path / "lra_bench" / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    arguments = command(
        write_protocol(tmp_path), tmp_path / "results", "--metrics", "accuracy", model="mine:Mine"
    )

    def run() -> RunRecord:
        done = subprocess.run(
            arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.strip().splitlines()[-1].removeprefix("Record: "))
        return read_record(path)

    first = run()
    assert first.model.name == "mine:Mine"
    assert len(first.model.source) == 64
    assert run() == first, "finished"
    with (tmp_path / "mine.py").open("a") as file:
        file.write("    def forward(self, x, mask):\n        return 0 * super().forward(x, mask)\n")
    edited = run()
    assert edited.run_id != first.run_id, "what other code has left is not shown for it"
    found = load_records(tmp_path / "results")
    assert {one.run_id for one in found} == {first.run_id, edited.run_id}
    one_row = leaderboard(found).boards[0]
    assert [row.scores[0].run_ids for row in one_row.rows] == [(edited.run_id,)]
    assert "mine:Mine: left out 1 run of earlier code, its own or its task's." in one_row.notes


@pytest.mark.parametrize(
    ("model", "status"), [("toy:Hungry", "oom"), ("toy:Exploding", "diverged"), ("toy:Broken", "error")]
)
def test_failed_cells_are_records_and_exit_1(tmp_path: Path, here: Call, model: str, status: str) -> None:
    results = tmp_path / "results"
    arguments = words(write_protocol(tmp_path), results, "--metrics", "accuracy", model=model)
    done = here(*arguments)
    assert done.code == 1, done.err
    assert load_records(results)[0].status == status
    assert f"Ended as {status}" in done.out
    again = here(*arguments)
    assert again.code == 1
    shown = "already finished" in again.err
    assert shown == (status != "error"), "a mended model is run again; a result is shown"


def test_a_killed_worker_is_no_record(tmp_path: Path, here: Call) -> None:
    results = tmp_path / "results"
    protocol = write_protocol(tmp_path)
    done = here(*words(protocol, results, "--metrics", "accuracy", model="toy:SilentlyKilled"))
    assert done.code == 1
    assert "was killed by SIGKILL" in done.err
    assert load_records(results) == []


@pytest.mark.slow
def test_a_signal_keeps_what_there_is_and_the_same_command_continues(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Ctrl-C, then SIGTERM to what continues, then to the end."""
    protocol = write_protocol(tmp_path, budget__steps=600, budget__evaluate_every=200)
    whole = call(command(protocol, tmp_path / "whole", "--metrics", "accuracy"), environment)
    assert whole.returncode == 0, whole.stderr
    results = tmp_path / "parts"
    arguments = command(protocol, results, "--metrics", "accuracy")
    for number in (signal.SIGINT, signal.SIGTERM):
        stop_in_training(arguments, environment, number)
        assert list(results.rglob("checkpoint.pt"))
        assert load_records(results) == []
    done = call(arguments, environment)
    assert done.returncode == 0, done.stderr
    assert lasting(load_records(results)[0]) == lasting(load_records(tmp_path / "whole")[0])


def stop_in_training(arguments: list[str], environment: dict[str, str], number: signal.Signals) -> None:
    process = subprocess.Popen(
        arguments, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if ": Training" in line:
            break
    time.sleep(0.3)  # well into it
    process.send_signal(number)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert "the same command continues" in rest


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker through /proc")
def test_a_killed_command_continues_to_the_same_record(tmp_path: Path, environment: dict[str, str]) -> None:
    """SIGKILL to parent and worker in several phases; the run still ends as if nothing had happened."""
    protocol = write_protocol(tmp_path, budget__steps=600, budget__evaluate_every=100)
    whole = call(command(protocol, tmp_path / "whole", "--metrics", "accuracy,flops"), environment)
    assert whole.returncode == 0, whole.stderr
    results = tmp_path / "parts"
    arguments = command(protocol, results, "--metrics", "accuracy,flops")
    often = {**environment, "LRA_BENCH_CHECKPOINT_S": "0"}
    for moment in ("FLOPs", "Training", CHECKPOINT, CHECKPOINT, "Scoring"):
        kill_at(moment, arguments, often, results)
        assert load_records(results) == []
    done = call(arguments, environment)
    assert done.returncode == 0, done.stderr
    assert lasting(load_records(results)[0]) == lasting(load_records(tmp_path / "whole")[0])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "linforner", "--task", "pathfinder"], 2, "Did you mean linformer"),
        (["--model", "linformer", "--task", "pathfindr"], 2, "Did you mean pathfinder"),
        (["--model", "linformer", "--task", "pathfinder", "--set", "model.rnk=3"], 2, "Did you mean rank"),
        (["--model", "linformer", "--task", "pathfinder", "--set", "model.rank=0"], 2, "rank=0"),
        (
            ["--model", "linformer", "--task", "pathfinder", "--set", "budget.stpes=3"],
            2,
            "Did you mean steps",
        ),
        (["--model", "linformer", "--task", "pathfinder", "--length", "1000"], 2, "1024"),
        (["--model", "linformer", "--task", "pathfinder", "--seeds", "a"], 2, "--seeds"),
        (["--model", "linformer", "--task", "pathfinder", "--device", "tpu"], 2, "Unknown device"),
        (["--model", "linformer", "--task", "pathfinder", "--data-dir", "/no/such"], 2, "no such folder"),
        (["--modle", "linformer", "--task", "pathfinder"], 2, "--model"),
    ],
)
def test_bad_input_in_one_line(
    tmp_path: Path, lra: Call, arguments: list[str], code: int, message: str
) -> None:
    done = lra("run", *arguments, "--results", tmp_path / "r")
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "r").exists(), "nothing was begun"


def test_unwritable_results(tmp_path: Path, lra: Call) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    done = lra("run", "--model", "local", "--task", "pathfinder", "--results", blocked)
    assert done.code == 5
    assert str(blocked) in done.err


def test_dry_run_does_nothing(tmp_path: Path, lra: Call) -> None:
    arguments = ["run", "--model", "local,linformer", "--task", "pathfinder", "--seeds", "0-1", "--dry-run"]
    done = lra(*arguments, "--results", tmp_path)
    assert done.code == 0
    assert done.out.count("linformer") >= 2
    assert not list(tmp_path.rglob("*.json"))
