"""`lra-bench sweep` as a user meets it: processes that die, a second run that completes, mistakes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from calling import Call
from harness import toy_cell, toy_protocol, work, write_protocol
from killing import children_of, lasting

from lra_bench.protocol import load
from lra_bench.record_store import load_records, read_record

TESTS = Path(__file__).resolve().parents[1]
STEPS = {"budget__steps": 400, "budget__evaluate_every": 100}


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "LRA_BENCH_CACHE": str(tmp_path_factory.getbasetemp() / "toy-cache"),
        "LRA_BENCH_CHECKPOINT_S": "0.3",
        "OMP_NUM_THREADS": "1",
    }


def start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "lra_bench", "sweep", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines_until(process: subprocess.Popen[str], beginning: str) -> list[str]:
    """What a sweep says, up to a line that begins so."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith(beginning):
            return seen
    raise AssertionError(f"no line began with {beginning!r}: {''.join(seen)}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers through /proc")
def test_a_sweep_through_kills_ends_as_if_nothing_had_happened(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed, then the sweep with its workers at work; a record is cut short; the same again."""
    protocol, results = write_protocol(tmp_path, **STEPS), tmp_path / "results"
    arguments = ["--models", "toy:Mean,toy:Plain", "--tasks", "toy:Evens", "--set", "model.gain=1,2"]
    arguments += ["--protocol", str(protocol), "--seeds", "2", "--metrics", "accuracy", "--device", "cpu"]
    arguments += ["--workers", "2", "--results", str(results)]

    first = start(arguments, environment)
    lines_until(first, "start")
    while not list(results.rglob("checkpoint.pt")):
        time.sleep(0.02)
    os.kill(children_of(first.pid)[0], signal.SIGKILL)
    told = lines_until(first, "lost")
    assert "killed by SIGKILL" in told[-1]
    lines_until(first, "done")
    first.kill()
    first.communicate()
    finished = sorted((results / "runs").rglob("*.json"))
    finished = [path for path in finished if path.parent.suffix != ".partial"]
    assert finished
    before = {path: path.read_bytes() for path in finished}
    finished[0].write_bytes(before[finished[0]][:1000])

    second = start([*arguments, "--json"], environment)
    out, err = second.communicate(timeout=600)
    assert second.returncode == 0, err
    assert f"Moved to {finished[0].name}.damaged-1" in err
    assert all(path.read_bytes() == before[path] for path in finished[1:]), "none is run again"
    cells = json.loads(out)
    assert len(cells) == 6
    assert {cell["state"] for cell in cells} == {"done"}

    monkeypatch.setenv("LRA_BENCH_CACHE", environment["LRA_BENCH_CACHE"])
    plain = toy_cell("toy:Plain", protocol=load(str(protocol)))
    gains = [toy_cell(protocol=load(str(protocol)), assignments={"model.gain": gain}) for gain in (1, 2)]
    for cell, seed in itertools.product([*gains, plain], (0, 1)):
        undisturbed = work(replace(cell, seed=seed), tmp_path / "undisturbed")
        assert lasting(read_record(replace(cell, seed=seed).record_path(results))) == lasting(undisturbed)
    left = [path for path in results.rglob("*") if path.is_file() and path.suffix not in (".json", ".npz")]
    assert [path.name for path in left] == [f"{finished[0].name}.damaged-1"], "no claim, no temporary file"


@pytest.mark.slow
def test_an_interrupted_sweep_keeps_what_there_is_and_says_what_failed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    results = tmp_path / "results"
    file = tmp_path / "sweep.yaml"
    protocol = write_protocol(tmp_path)
    file.write_text(
        f"models: [toy:Broken, toy:Slow]\ntasks: [toy:Evens]\nprotocol: {protocol}\nmetrics: [accuracy]\n"
        f"device: cpu\nresults: {results}\n"
    )
    first = start([str(file)], environment)
    lines_until(first, "error")
    while not list(results.rglob("checkpoint.pt")):
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 130, err
    assert "1 still to run; the same command continues" in err
    assert "a fault in somebody's model" in err
    assert list(results.rglob("checkpoint.pt"))
    assert out == ""


def test_a_dry_run_shows_cells_costs_and_what_is_finished(
    tmp_path: Path, lra: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = write_protocol(tmp_path)
    arguments = ["--models", "toy:Mean,toy:Plain", "--tasks", "toy:Evens", "--protocol", str(protocol)]
    arguments += ["--seeds", "2", "--metrics", "accuracy", "--device", "cpu", "--results", str(tmp_path)]
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    work(toy_cell(protocol=toy_protocol()), tmp_path)
    code, shown, _ = lra("sweep", *arguments, "--dry-run")
    assert code == 0
    assert "4 cells: 1 finished, 3 to run" in shown
    assert "*" in shown, "a record corrects the time of the model's other seed"
    rows = json.loads(lra("sweep", *arguments, "--dry-run", "--json").out)
    assert [row["status"] for row in rows] == ["ok", "", "", ""]
    assert [row["time_from_records"] for row in rows] == [True, False, True, False]
    assert len(load_records(tmp_path)) == 1, "nothing was run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "linforner", "--tasks", "listops"], "Did you mean linformer"),
        (["--models", "linformer", "--tasks", "listpos"], "Did you mean listops"),
        (["--models", "linformer", "--tasks", "listops", "--set", "model.rnk=3,4"], "Did you mean rank"),
        (["--models", "linformer", "--tasks", "listops", "--seeds", "a"], "--seeds"),
        (["--models", "linformer", "--tasks", "listops", "--shard", "4"], "expected i/n"),
        (["--models", "linformer"], "tasks is missing"),
        (["no-such.yaml"], "Cannot read the sweep no-such.yaml"),
    ],
)
def test_mistakes_in_one_line(tmp_path: Path, lra: Call, arguments: list[str], message: str) -> None:
    done = lra("sweep", *arguments, "--results", tmp_path / "r")
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_launcher_whose_package_is_missing(
    tmp_path: Path, lra: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lra_bench.launch.slurm", None)
    arguments = ["--models", "linformer", "--tasks", "listops", "--launcher", "slurm"]
    done = lra("sweep", *arguments, "--results", tmp_path)
    assert done.code == 2
    assert "pip install 'lra-bench[slurm]'" in done.err
