"""Two processes take a training to the same end as one: losses, weights, predictions, checkpoints."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parallel_cases import CASES, STOP_AT, Case, exchange

from lra_bench.data.batches import Batch
from lra_bench.data.task import IGNORED_LABEL
from lra_bench.distributed import Group

TESTS = Path(__file__).resolve().parent
SIZE = 2


def in_processes(folder: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Runs cases in two processes, as torchrun would start them; by case, what each process found."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "OMP_NUM_THREADS": "1",
        "PYTHONFAULTHANDLER": "1",
        "WORLD_SIZE": str(SIZE),
        "LOCAL_WORLD_SIZE": str(SIZE),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", str(TESTS / "parallel_cases.py"), str(folder), *names],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(SIZE)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * SIZE, errors
    return {name: torch.load(folder / f"{name}-0.pt", weights_only=False) for name in names}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """Every case in this process."""
    found = {}
    for name in CASES:
        case = Case(name, folder, Group())
        found[name] = case.train()
        shutil.rmtree(case.folder)
    return found


@pytest.fixture(scope="module")
def together(folder: Path, alone: dict[str, Any]) -> dict[str, list[Any]]:
    """Every case in two processes; one of them stopped half-way, and measurements."""
    stopped = f"token labels@{STOP_AT}"
    names = ["exchange", "unequal parts", "auxiliary loss", "unused parameters", stopped, "measure"]
    return in_processes(folder, names)


def agree(first: dict[str, Any], second: dict[str, Any]) -> None:
    for what in ("losses", "curve", "loss"):
        np.testing.assert_allclose(first[what], second[what], rtol=1e-5, err_msg=what)
    for what in ("predictions", "labels", "accuracy"):
        assert first[what] == second[what], what
    # Keys' biases have no gradient but rounding, and Adam makes whole steps of it.
    differ = np.abs(np.subtract(first["weights"], second["weights"])) > 1e-4
    assert differ.mean() < 0.02


@pytest.mark.parametrize("name", ["unequal parts", "auxiliary loss", "unused parameters"])
def test_the_same_as_in_one(name: str, alone: dict[str, Any], together: dict[str, list[Any]]) -> None:
    first, second = together[name]
    agree(alone[name], first)
    assert first == second, "all processes have the same weights and see the same scores"


def test_stopped_in_two_and_continued_in_one(
    folder: Path, alone: dict[str, Any], together: dict[str, list[Any]]
) -> None:
    """With a label per token, of which parts have unequally many."""
    name = "token labels"
    half = together[f"{name}@{STOP_AT}"][0]
    assert len(half["losses"]) == STOP_AT
    rest = Case(name, folder, Group()).train()
    agree(alone[name], {**rest, "losses": half["losses"] + rest["losses"]})


def test_what_the_processes_tell_one_another(together: dict[str, list[Any]]) -> None:
    expected = {
        "sum": [2.0, 1.0],
        "mean": [1.0, 0.5],
        "largest": [0.0, 1.0],
        "numbers": [0.5],
        "of first": {"rank": 0},
        "gathered": [0, 1],
    }
    assert together["exchange"] == [expected] * SIZE
    assert exchange(Group()) == {
        "sum": [1.0, 0.0],
        "mean": [1.0, 0.0],
        "largest": [0, 0],
        "numbers": [0.5],
        "of first": {"rank": 0},
        "gathered": [0],
    }


def test_time_is_the_slowest_ones_and_memory_the_largest_ones(
    folder: Path, together: dict[str, list[Any]]
) -> None:
    first, second = together["measure"]
    assert first["time"]["samples_s"] == second["time"]["samples_s"]
    assert first["memory"]["peak_bytes"] == second["memory"]["peak_bytes"]
    whole = Case("unequal parts", folder, Group())
    model = whole.model()
    parameter_bytes = 4 * sum(parameter.numel() for parameter in model.parameters())
    batch = whole.sources["train"].batch(np.arange(15))
    # Weights, two moments, the buckets of gradients, step counters, and the larger part: 8 of 15 rows.
    rows_bytes = sum(t[:8].numel() * t.element_size() for t in (*batch.inputs, batch.labels) if t is not None)
    counters = 4 * len(list(model.parameters()))
    known = 4 * parameter_bytes + counters + rows_bytes
    assert known <= first["memory"]["state_bytes"] < known + 512, "and what the exchange has to note"
    assert first["flops"]["batch_size"] == first["memory"]["batch_size"] == 15


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_parts_of_a_batch_are_the_batch(size: int) -> None:
    labels = torch.randint(0, 3, (7, 5))
    labels[:, 3:] = IGNORED_LABEL
    mask = torch.ones(7, 5, dtype=torch.bool)
    batch = Batch(torch.arange(35).reshape(7, 5), mask, labels)
    parts = [batch.part(rank, size) for rank in range(size)]
    assert torch.equal(torch.cat([part.input_ids for part in parts]), batch.input_ids)
    assert torch.equal(torch.cat([part.labels for part in parts]), labels)
    assert all(part.mask is not None and part.mask.shape == (len(part), 5) for part in parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if size > 1:
        assert [part.whole.tolist() for part in parts if part.whole is not None] == [[21, 7]] * size
