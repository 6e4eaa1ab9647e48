"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread a process: the models of the tests are tiny, and several workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of golden files and real data, from LRA_BENCH_DATA; skips where it is absent."""
    folder = os.environ.get("LRA_BENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LRA_BENCH_DATA names no folder of reference data")
    return Path(folder)
