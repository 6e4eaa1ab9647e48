"""Cells: everything is checked before any work, and the hash covers what shapes a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from harness import toy_cell, toy_protocol

from lra_bench.cell import Cell, parse_assignments, resolve_cell
from lra_bench.errors import UsageError


def test_round_trip_through_json() -> None:
    cell = toy_cell(assignments={"model.gain": 2, "task.length": 9})
    again = Cell.from_json(json.loads(json.dumps(cell.to_json())))
    assert again.run_id == cell.run_id
    assert again.settings == cell.settings
    assert again == cell


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"precision": "bf16"},
        {"compiled": True},
        {"assignments": {"model.gain": 2.0}},
        {"assignments": {"task.length": 9}},
        {"assignments": {"budget.steps": 13}},
        {"assignments": {"optimizer.learning_rate": 0.02}},
        {"metrics": ("accuracy", "time")},
        {"protocol": toy_protocol(architecture__ffn_dim=32)},
    ],
)
def test_what_changes_the_run_id(change: dict) -> None:
    assert toy_cell(**change).run_id != toy_cell().run_id


def test_what_does_not_change_the_run_id() -> None:
    assert toy_cell(assignments={"model.gain": 1.0}).run_id == toy_cell().run_id, "a default said aloud"
    assert toy_cell(protocol=toy_protocol(note="Other words.")).run_id == toy_cell().run_id


def test_place_on_disk() -> None:
    cell = resolve_cell("linformer", "pathfinder", device="cpu")
    path = cell.record_path(Path("results"))
    assert path.parts[:2] == ("results", "runs")
    assert path.parts[3:] == ("quick", "pathfinder", "linformer", f"{cell.run_id}.json")
    assert path.parts[2].startswith("cpu-")


def test_overrides_are_listed() -> None:
    cell = toy_cell(assignments={"budget.steps": 13, "task.length": 9, "model.gain": 3.0})
    assert dict(cell.overrides) == {"budget.steps": 13, "task.length": 9}
    assert cell.changed_options == {"gain": 3.0}
    assert toy_cell().overrides == {}


def test_length_becomes_a_task_option() -> None:
    cell = toy_cell(length=12)
    assert cell.task_options["length"] == 12
    assert cell.overrides == {"task.length": 12}


def test_speed_only_protocols_drop_accuracy() -> None:
    cell = toy_cell(metrics=("accuracy", "time"), assignments={"budget.steps": 0, "schedule.warmup_steps": 0})
    assert cell.metrics == ("time",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "linforner", "task": "pathfinder"}, "Unknown model 'linforner'. Did you mean linformer"),
        ({"model": "linformer", "task": "pathfindr"}, "Unknown task 'pathfindr'. Did you mean pathfinder"),
        ({"model": "linformer", "task": "pathfinder", "protocol": "quik"}, "Did you mean quick"),
        ({"model": "linformer", "task": "pathfinder", "device": "gpu"}, "Unknown device 'gpu'"),
        ({"model": "linformer", "task": "pathfinder", "precision": "fp16"}, "precision 'fp16'"),
        ({"model": "linformer", "task": "pathfinder", "metrics": ["speed"]}, "metric 'speed'"),
        (
            {"model": "linformer", "task": "pathfinder", "assignments": {"model.rnk": 3}},
            "no option 'rnk'. Did you mean rank",
        ),
        (
            {"model": "linformer", "task": "pathfinder", "assignments": {"model.rank": 0}},
            "rank=0 is out of range",
        ),
        ({"model": "local", "task": "pathfinder", "assignments": {"task.sise": 64}}, "Did you mean size"),
        ({"model": "local", "task": "pathfinder", "length": 1000}, "1024"),
        ({"model": "local", "task": "pathfinder", "assignments": {"architecture.num_heads": 0}}, "num_heads"),
        (
            {"model": "local", "task": "pathfinder", "assignments": {"architecture.num_heads": 3}},
            "num_heads=3 does not divide dim=64",
        ),
        ({"model": "root_arguments", "task": "pathfinder"}, "means nothing on pathfinder"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_cell(**{"device": "cpu", **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="has no CUDA"):
        resolve_cell("linformer", "pathfinder", device="cuda")


@pytest.mark.parametrize("text", ["rank=3", "model.rank", "modle.rank=3", "model.rank=[1", "model.=3"])
def test_assignments_that_say_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_assignments([text])


def test_assignments_are_yaml() -> None:
    parsed = parse_assignments(["model.rank=64", "optimizer.betas=[0.9, 0.99]", "budget.time_limit_s=null"])
    assert parsed == {"model.rank": 64, "optimizer.betas": [0.9, 0.99], "budget.time_limit_s": None}
