"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from calling import lra
from evidence import evidence, pytest_addoption, pytest_configure

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

    from lra_bench.records import RunRecord

__all__ = ["evidence", "lra", "pytest_addoption", "pytest_configure"]  # pytest finds them by being here

# One thread a process: the models of the tests are tiny, and several workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Taken out of the environment, so that a test which does not ask for the data by `reference_data` does the
# same where they are and where they are not. The processes of pytest-xdist start after this and hear of them
# by the other name.
KEPT_AS = "LRA_BENCH_REFERENCE_DATA"
REFERENCE_DATA = os.environ.pop("LRA_BENCH_DATA", None) or os.environ.get(KEPT_AS)
if REFERENCE_DATA:
    os.environ[KEPT_AS] = REFERENCE_DATA


SHARE_A_FIXTURE = ("bench/test_session.py", "test_distributed.py")
"""Their fixtures start many processes; each worker with one of their tests would make them again."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Every test by itself to the next free worker, but those of `SHARE_A_FIXTURE` to one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.endswith(SHARE_A_FIXTURE) else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def device_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests that run side by side need not wait for one another: none compares times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRA_BENCH_LOCKS", str(tmp_path_factory.getbasetemp() / "device-locks"))
        yield


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The record of a toy cell that was really run; tests change copies of it."""
    from harness import toy_cell, work  # imports torch, which reads the number of threads above

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
        return work(toy_cell(), tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of golden files and real data, from LRA_BENCH_DATA; skips where it is absent."""
    if not REFERENCE_DATA or not Path(REFERENCE_DATA).is_dir():
        pytest.skip("LRA_BENCH_DATA names no folder of reference data")
    return Path(REFERENCE_DATA)
