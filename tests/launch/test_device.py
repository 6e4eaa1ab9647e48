"""A worker on another kind of machine than its cell is for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from harness import toy_cell

from lra_bench.errors import UsageError
from lra_bench.job import Job
from lra_bench.launch.local import run_job


def test_no_record_under_another_machines_name(tmp_path: Path) -> None:
    cell = replace(toy_cell(), device_slug="cpu-cray-1c-8g")
    with pytest.raises(UsageError, match="is for cpu-cray-1c-8g"):
        run_job(Job(cell, tmp_path))
    assert not list(tmp_path.rglob("*.json"))
