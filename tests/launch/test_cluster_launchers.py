"""One contract for the launchers whose work runs in other processes: submit, poll, stop, failure, loss."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import work as run_here
from killing import lasting
from standins import TARGET, TESTS, most_at_once, work

from lra_bench.errors import UsageError
from lra_bench.launch.launcher import Launcher, Outcome
from lra_bench.launch.remote import EXECUTE
from lra_bench.record_store import load_records

PATIENCE_S = 240.0
"""Every process imports torch first, which takes a while where others work too."""

Make = Callable[..., Launcher]


def submitit_local(results: Path, target: str = TARGET, executor: str = "local") -> Launcher:
    pytest.importorskip("submitit", reason="no submitit")
    from lra_bench.launch.slurm import SlurmLauncher
    from lra_bench.launch.slurm_options import SlurmOptions

    return SlurmLauncher(results, SlurmOptions.parse({"executor": executor}), workers=2, target=target)


def submitit_debug(results: Path, target: str = TARGET) -> Launcher:
    return submitit_local(results, target, "debug")


def ray_local(results: Path, target: str = TARGET) -> Launcher:
    pytest.importorskip("ray", reason="no Ray")
    from lra_bench.launch.ray import RayLauncher

    return RayLauncher(results, workers=2, target=target)


@pytest.fixture(params=[submitit_local, pytest.param(ray_local, marks=pytest.mark.slow)])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return request.param


def gather(launcher: Launcher, number: int) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    deadline = time.monotonic() + PATIENCE_S
    while len(outcomes) < number and time.monotonic() < deadline:
        outcomes |= {outcome.run_id: outcome for outcome in launcher.poll(0.5)}
    return outcomes


def test_contract(tmp_path: Path, make: Make) -> None:
    long, dies, fails, waits = (
        work(tmp_path, seed, command) for seed, command in enumerate(["wait 600", "die", "fail", "wait 600"])
    )
    with make(tmp_path) as launcher:
        assert launcher.capacity == 2
        for piece in (long, dies):
            launcher.submit([piece])
        launcher.submit([fails])
        ended = gather(launcher, 2)
        assert ended[dies.cell.run_id].state == "lost"
        assert ended[fails.cell.run_id].state == "failed"
        assert "no such data" in ended[fails.cell.run_id].message
        launcher.submit([waits])
        launcher.stop()
        stopped = gather(launcher, 2)
        assert {outcome.state for outcome in stopped.values()} == {"stopped"}
        assert stopped.keys() == {long.cell.run_id, waits.cell.run_id}
        assert (tmp_path / f"{long.cell.run_id}.saved").exists()
        assert launcher.poll(0.0) == [], "nothing is told twice"
    assert most_at_once(tmp_path) <= 2
    assert not list(tmp_path.glob(".sweep-*.stop"))


@pytest.mark.parametrize(
    "make",
    [
        submitit_debug,
        pytest.param(submitit_local, marks=pytest.mark.slow),
        pytest.param(ray_local, marks=pytest.mark.slow),
    ],
)
def test_a_real_cell_has_the_record_that_it_has_here(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[..., Launcher],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
    results = tmp_path / "results"
    results.mkdir()
    piece = work(results, 0, "lra-bench sweep", threads=1)
    with make(results, EXECUTE) as launcher:
        device = launcher.device_there("cpu")  # type: ignore[attr-defined]
        assert device == (piece.cell.device, piece.cell.device_slug)
        launcher.submit([piece])
        ended = gather(launcher, 1)
        assert ended[piece.cell.run_id].state == "done", ended
        launcher.submit([piece])
        assert gather(launcher, 1)[piece.cell.run_id].state == "done", "it is not run twice"
    (record,) = load_records(results)
    assert lasting(record) == lasting(run_here(piece.cell, tmp_path / "here"))
    assert not list(results.rglob("*.claim"))
    assert not (results / ".slurm").exists()


@pytest.mark.slow
def test_a_cell_too_large_beside_others_is_run_again_alone_on_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    large, other = work(tmp_path, 0, "large"), work(tmp_path, 1, "wait 1")
    with ray_local(tmp_path) as launcher:
        launcher.submit([large, other])
        ended = gather(launcher, 2)
    assert {outcome.state for outcome in ended.values()} == {"done"}
    assert most_at_once(tmp_path) == 1, "its spans are those of the last time"


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from lra_bench.launch.ray import RayLauncher

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'lra-bench\[ray\]'"):
        RayLauncher(tmp_path)
