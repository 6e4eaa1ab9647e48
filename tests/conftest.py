"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from evidence import evidence, pytest_addoption, pytest_configure

__all__ = ["evidence", "pytest_addoption", "pytest_configure"]  # pytest finds them by being here

# One thread a process: the models of the tests are tiny, and several workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Read once: tests point LRA_BENCH_DATA to folders of their own.
REFERENCE_DATA = os.environ.get("LRA_BENCH_DATA")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of golden files and real data, from LRA_BENCH_DATA; skips where it is absent."""
    if not REFERENCE_DATA or not Path(REFERENCE_DATA).is_dir():
        pytest.skip("LRA_BENCH_DATA names no folder of reference data")
    return Path(REFERENCE_DATA)
