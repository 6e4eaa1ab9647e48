"""Public implementations of the same methods, given our weights, give our output.

Their outputs are frozen in tests/golden (`tests/peers/freeze.py` makes them), so none is needed here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peers.freeze import NOT_PEERS
from peers.peer import Parity

from lra_bench.mixer import mask_from_lengths
from lra_bench.registry import models
from lra_bench.validation.subject import Subject, core

TESTS = Path(__file__).resolve().parents[1]
GOLDEN = TESTS / "golden"


def parities() -> dict[str, tuple[str, Parity]]:
    """Golden file's stem -> entry and what was frozen."""
    found = {}
    for path in sorted((TESTS / "peers").glob("*.py")):
        if path.stem not in NOT_PEERS:
            module = importlib.import_module(f"peers.{path.stem}")
            for label, parity in getattr(module, "PARITIES", {}).items():
                found[f"{path.stem}-{label}"] = (path.stem, parity)
    return found


PARITIES = parities()


def test_golden_files_are_those_of_the_peers() -> None:
    assert {path.stem for path in GOLDEN.glob("*.npz")} == set(PARITIES)


@pytest.mark.parametrize("stem", PARITIES)
def test_output_is_the_peers(stem: str, evidence: Callable[..., None]) -> None:
    name, parity = PARITIES[stem]
    with np.load(GOLDEN / f"{stem}.npz") as arrays:
        tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files if key != "package"}
        assert str(arrays["package"]) == parity.package
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    module = Subject(models.get(name), parity.options, parity.sizes).build().double()
    parity.give(core(module), state)
    mask = mask_from_lengths(torch.tensor(parity.lengths), max(parity.lengths))
    with torch.no_grad():
        got = module(tensors["x"], None if mask.all() else mask)[mask]
    expected = tensors["y"][mask]
    error = float((got - expected).abs().max() / expected.abs().max())
    assert error < parity.tolerance
    # A comparison that any output passes shows nothing.
    assert float((got - expected.roll(1, 0)).abs().max() / expected.abs().max()) > 100 * parity.tolerance
    evidence(name, "parity", {"package": parity.package, "error": error})
