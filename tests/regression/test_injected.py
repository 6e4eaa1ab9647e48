"""The faults of `benchmarks/injected.py` still have a place in the code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import lra_bench

PATH = Path(__file__).parents[1] / "benchmarks" / "injected.py"
spec = importlib.util.spec_from_file_location("injected", PATH)
assert spec is not None
assert spec.loader is not None
injected = importlib.util.module_from_spec(spec)
sys.modules["injected"] = injected  # where its dataclass looks
spec.loader.exec_module(injected)


def source(file: str) -> Path:
    """Models and tasks lie outside the package in a checkout."""
    inside = Path(lra_bench.__file__).parent / file
    return inside if inside.exists() else PATH.parents[2] / file


def test_there_are_enough_and_each_has_a_name() -> None:
    names = [fault.name for fault in injected.FAULTS]
    assert len(names) == len(set(names)) >= 20


@pytest.mark.parametrize("fault", injected.FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted(fault) -> None:
    text = source(fault.file).read_text("utf-8")
    assert injected.planted(fault, text) != text
