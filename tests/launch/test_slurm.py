"""The SLURM launcher against a SLURM of the tests; jobs run submitit's own code, in this process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from slurm_standin import Slurm
from standins import TARGET, work

from lra_bench.errors import UsageError
from lra_bench.launch import slurm as slurm_module
from lra_bench.launch.launcher import Outcome
from lra_bench.launch.slurm import SlurmLauncher
from lra_bench.launch.slurm_options import SlurmOptions

pytest.importorskip("submitit", reason="no submitit")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.setattr(slurm_module, "SETTLE_S", 0.0)
    monkeypatch.setattr(slurm_module, "SUBMIT_AGAIN_S", 0.0)
    return Slurm(tmp_path / "bin", monkeypatch)


def launcher(results: Path, workers: int = 8, **options: object) -> SlurmLauncher:
    made = SlurmLauncher(results, SlurmOptions.parse(options), workers, target=TARGET)
    assert made._queue is not None
    made._queue._ask_every_s = 0.0
    made._look_every_s = 0.0
    return made


def poll(made: SlurmLauncher) -> list[Outcome]:
    for _ in range(3):  # what has ended is seen before it is believed
        if outcomes := made.poll(0):
            return outcomes
    return []


def test_one_array_whose_elements_are_cells(tmp_path: Path, slurm: Slurm) -> None:
    options = {
        "partition": "gpu",
        "account": "lab",
        "time_min": 90,
        "gpus": 1,
        "cpus": 4,
        "memory_gb": 16,
        "array_parallelism": 2,
        "setup": ["module load cuda"],
        "additional": {"reservation": "mine"},
    }
    with launcher(tmp_path, **options) as made:
        pieces = [work(tmp_path, seed, command) for seed, command in enumerate(["done", "fail", "done"])]
        for piece in pieces:
            made.submit([piece])
        assert poll(made) == []
        assert len(slurm.calls("sbatch")) == 1
        asked = slurm.script(101)
        for line in (
            "--partition=gpu",
            "--account=lab",
            "--time=90",
            "--gpus-per-node=1",
            "--cpus-per-task=4",
            "--mem=16GB",
            "--array=0-2%2",
            "--reservation=mine",
        ):
            assert f"#SBATCH {line}" in asked
        assert asked.index("module load cuda") < next(i for i, line in enumerate(asked) if "srun" in line)
        assert f"{sys.executable} -P" in asked[-1], "a checkout must not hide the installed package"
        slurm.run("101_1", made.folder)
        (failed,) = poll(made)
        assert (failed.run_id, failed.state) == (pieces[1].cell.run_id, "failed")
        assert str(made.folder) in failed.message, "where its logs are"
        slurm.run("101_0", made.folder)
        slurm.run("101_2", made.folder)
        ended = poll(made)
        assert [(one.run_id, one.state) for one in ended] == [
            (pieces[0].cell.run_id, "done"),
            (pieces[2].cell.run_id, "done"),
        ]
        pids_threads_devices = (tmp_path / f"{pieces[0].cell.run_id}.began").read_text().split()
        assert pids_threads_devices[1:] == ["4", "cpu"], "as many threads as processors"


def test_no_more_jobs_than_workers(tmp_path: Path, slurm: Slurm) -> None:
    with launcher(tmp_path, workers=2) as made:
        made.submit([work(tmp_path, seed, "done") for seed in range(3)])
        made.poll(0)
        assert "#SBATCH --array=0-1%2" in slurm.script(101)
        slurm.run("101_0", made.folder)
        assert len(poll(made)) == 1
        made.poll(0)
        assert len(slurm.calls("sbatch")) == 2
        slurm.run("102", made.folder)
        slurm.run("101_1", made.folder)
        assert len(poll(made)) == 2


@pytest.mark.parametrize(
    ("state", "log", "expected", "message"),
    [
        ("NODE_FAIL", "lra-bench: start of {run_id} on n1", "lost", "NODE_FAIL"),
        ("PREEMPTED", "lra-bench: start of {run_id} on n1", "lost", "PREEMPTED"),
        ("FAILED", "lra-bench: start of {run_id} on n1", "lost", "FAILED"),
        ("FAILED", "slurm_script: line 15: module: command not found", "failed", "module: command not found"),
        ("OUT_OF_MEMORY", "lra-bench: start of {run_id} on n1", "failed", "memory_gb"),
        ("CANCELLED", "", "failed", "cancelled"),
    ],
)
def test_a_job_without_a_result(
    tmp_path: Path, slurm: Slurm, state: str, log: str, expected: str, message: str
) -> None:
    with launcher(tmp_path) as made:
        piece = work(tmp_path, 0, "done")
        made.submit([piece])
        made.poll(0)
        (made.folder / "101_0_log.err").write_text(log.format(run_id=piece.cell.run_id))
        slurm.says("101", "RUNNING")
        assert poll(made) == []
        slurm.says("101", state)
        (outcome,) = poll(made)
        assert outcome.state == expected
        assert message in outcome.message
        assert str(made.folder) in outcome.message
    assert made.folder.exists(), "the logs are kept"


def test_preempted_it_is_queued_again_and_continues(tmp_path: Path, slurm: Slurm) -> None:
    def preempt() -> None:
        while not list(tmp_path.glob("*.began")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    with launcher(tmp_path) as made:
        made.submit([work(tmp_path, 0, "wait 0.5")])
        made.poll(0)
        thread = threading.Thread(target=preempt)
        thread.start()
        with pytest.raises(SystemExit):
            slurm.run("101", made.folder)
        thread.join()
        assert list(tmp_path.glob("*.saved"))
        assert slurm.calls("scontrol") == ["scontrol requeue 101"]
        slurm.says("101", "PENDING")
        assert poll(made) == [], "it is still at work"
        slurm.run("101", made.folder)
        assert [one.state for one in poll(made)] == ["done"]
    assert not made.folder.exists(), "nobody needs these logs"


def test_stop_cancels_what_waits_and_asks_what_runs(tmp_path: Path, slurm: Slurm) -> None:
    with launcher(tmp_path, workers=2) as made:
        pieces = [work(tmp_path, seed, "wait 30") for seed in range(3)]
        made.submit(pieces)
        made.poll(0)
        slurm.says("101_1", "PENDING")
        made.stop()
        assert made.poll(0) == [Outcome(pieces[2].cell.run_id, "stopped")]
        assert slurm.calls("scancel") == ["scancel --state=PENDING 101_0 101_1"]
        slurm.says("101_1", "CANCELLED")
        slurm.run("101_0", made.folder)  # sees the stop file
        outcomes = made.poll(0) + made.poll(0)
        assert sorted(one.run_id for one in outcomes) == sorted(one.cell.run_id for one in pieces[:2])
        assert {one.state for one in outcomes} == {"stopped"}
    assert not list(tmp_path.glob(".sweep-*.stop")), "a later sweep isn't stopped by it"


def test_what_slurm_refuses(tmp_path: Path, slurm: Slurm, caplog: pytest.LogCaptureFixture) -> None:
    slurm.refuses("sbatch: error: invalid partition specified: nope")
    with launcher(tmp_path) as made:
        made.submit([work(tmp_path, 0, "done")])
        with pytest.raises(UsageError, match="invalid partition"):
            made.poll(0)
    slurm.refuses(None)
    with launcher(tmp_path) as made:
        made.submit([work(tmp_path, 0, "done")])
        made.poll(0)
        slurm.refuses("sbatch: error: Socket timed out")
        made.submit([work(tmp_path, 1, "done")])
        made.poll(0)  # it has worked before: it will again
        assert "Socket timed out" in caplog.text
        slurm.refuses(None)
        made.poll(0)
        for job_id in ("101", "102"):
            slurm.run(job_id, made.folder)
        assert {one.state for one in poll(made) + poll(made)} == {"done"}


def test_options_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="time_min"):
        SlurmOptions.parse({"time": "01:00:00"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="login node"):
        SlurmLauncher(tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"lra-bench\[slurm\]"):
        SlurmLauncher(tmp_path)
