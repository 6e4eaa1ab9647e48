"""Ladders on cards, and the command that runs one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from calling import Call

from lra_bench.errors import UsageError
from lra_bench.ladder import ladder_cells, rungs
from lra_bench.registry import models

LADDERS = [entry.name for entry in models if entry.ladder]


def test_variants_of_many_parts_have_one() -> None:
    bundled = {"groupbert", "shatter", "bigbird", "longformer", "linformer"}
    bundled |= {"transformer_xl", "compressive", "reformer"}
    assert bundled <= set(LADDERS)


@pytest.mark.parametrize("name", LADDERS)
def test_rungs_are_cells_that_differ(name: str) -> None:
    """From the plain Transformer to the defaults, each another cell of the same settings."""
    cells = ladder_cells(name, "recall", device="cpu", assignments={"model.parameter_match": False})
    assert cells[0][1].model == "transformer"
    assert cells[-1][1].model == name
    assert cells[-1][1].changed_options == {}
    assert len({cell.run_id for _, cell in cells}) == len(cells) >= 2
    assert len({rung.label for rung, _ in cells}) == len(cells)
    for (_, before), (_, after) in itertools.pairwise(cells[1:]):
        if before.model == after.model:
            options = before.model_options.items() ^ after.model_options.items()
            assert options, "each step changes something"


def test_without_a_ladder() -> None:
    with pytest.raises(UsageError, match=r"transformer has no ladder on its card\. Models that have one: "):
        rungs("transformer")


def test_options_are_the_ladders_own() -> None:
    with pytest.raises(UsageError, match="a ladder sets the options"):
        ladder_cells("linformer", "recall", device="cpu", assignments={"model.rank": 8})


@pytest.mark.slow
def test_the_command_runs_every_rung_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lra: Call) -> None:
    """Two ladders share the plain Transformer, which is run once and stands in both tables."""
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    names = ["cosformer", "nystromformer"]
    words = ["run", "--ablate", ",".join(names), "--task", "recall", "--device", "cpu", "--metrics", "flops"]
    words += ["--set", "task.length=64", "--set", "task.train_size=64", "--set", "task.num_pairs=4"]
    words += ["--set", "task.validation_size=64", "--set", "task.test_size=64"]
    code, shown, _ = lra(*words)
    assert code == 0, shown
    assert len(list((tmp_path / "results").rglob("transformer/*.json"))) == 1
    tables = shown[shown.index("Ladder of cosformer") :].split("Ladder of ")[1:]
    for name, table in zip(names, tables, strict=True):
        assert table.startswith(f"{name} on recall")
        for rung in rungs(name):
            assert rung.label in table


def test_a_model_and_a_ladder_are_two_things(lra: Call) -> None:
    words = ["run", "--ablate", "linformer", "--model", "linformer", "--task", "recall"]
    done = lra(*words)
    assert done.code == 2
    assert "either --model or --ablate" in done.err
