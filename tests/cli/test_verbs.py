"""The other verbs: list, show, leaderboard, data, env."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import Call
from harness import toy_cell, work

from lra_bench.record_store import record_files


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
        work(toy_cell(), folder)
    return folder


def test_help_of_every_verb_fits_a_screen_and_has_examples(lra: Call) -> None:
    code, out, _ = lra("--help")
    assert code == 0
    for verb in ("run", "list", "show", "bench", "history", "leaderboard", "plot", "data", "env"):
        assert verb in out
        code, text, _ = lra(verb, "--help")
        assert code == 0
        assert len(text.splitlines()) < 50
        if verb != "data":
            assert "Example" in text


def test_version(lra: Call) -> None:
    assert lra("--version")[1].startswith("lra-bench 0.")


@pytest.mark.parametrize("what", ["models", "tasks", "protocols", "devices"])
def test_list(lra: Call, what: str) -> None:
    code, out, _ = lra("list", what)
    assert code == 0
    assert len(out.splitlines()) > 2
    rows = json.loads(lra("list", what, "--json")[1])
    assert all(row["name"] for row in rows)


def test_list_takes_a_glob(lra: Call) -> None:
    names = [row["name"] for row in json.loads(lra("list", "models", "lin*", "--json")[1])]
    assert names == ["linformer", "linear_transformer"]
    code, _, err = lra("list", "models", "nothing*")
    assert code == 0
    assert "No models match" in err


def test_list_runs_and_show(lra: Call, results: Path) -> None:
    rows = json.loads(lra("list", "runs", "--results", str(results), "--json")[1])
    assert rows[0]["model"] == "toy:Mean"
    shown = json.loads(lra("show", rows[0]["name"][:6], "--results", str(results), "--json")[1])
    assert shown["run_id"] == rows[0]["name"]


def test_show_cards(lra: Call) -> None:
    card = json.loads(lra("show", "linformer", "--json")[1])
    assert card["paper"]["arxiv"] == "2006.04768"
    assert card["options"]["rank"]["default"] == 256
    assert "width 64" in lra("show", "lite")[1]
    assert json.loads(lra("show", "pathx", "--json")[1])["options"]["size"]["default"] == 128
    code, _, err = lra("show", "linforner")
    assert code == 2
    assert "Did you mean linformer" in err


def test_leaderboard_writes_checks_and_names_damage(lra: Call, results: Path, tmp_path: Path) -> None:
    code, out, _ = lra("leaderboard", "--results", str(results))
    assert code == 0
    assert "toy:Mean" in out
    path = results / "LEADERBOARD.md"
    text = path.read_text()
    assert "| toy:Mean |" in text
    assert lra("leaderboard", "--results", str(results), "--check")[0] == 0
    path.write_text(text + "edited by hand")
    assert lra("leaderboard", "--results", str(results), "--check")[0] == 1
    path.write_text(text)
    numbers = results / "leaderboard.csv"
    numbers.write_text(numbers.read_text().replace(",1,0,ok,", ",2,0,ok,"))
    code, _, err = lra("leaderboard", "--results", str(results), "--check")
    assert code == 1
    assert "leaderboard.csv is out of date" in err

    mine = tmp_path / "MINE.md"
    mine.write_text("no place\n")
    arguments = ("leaderboard", "--results", str(results), "--into", str(mine))
    code, _, err = lra(*arguments)
    assert code == 2
    assert "no place for a table" in err
    title = next(line for line in text.splitlines() if line.startswith("## ")).removeprefix("## ")
    mine.write_text(f"<!-- leaderboard: {title} -->\n<!-- end of leaderboard -->\n")
    code, _, err = lra(*arguments, "--check")
    assert code == 1
    assert "MINE.md is out of date: run lra-bench leaderboard --into" in err
    assert "| toy:Mean |" not in mine.read_text()
    assert lra(*arguments)[0] == 0
    assert "| toy:Mean |" in mine.read_text()
    assert lra(*arguments, "--check")[0] == 0

    damaged = results / "runs" / "damaged.json"
    damaged.write_text("{")
    try:
        code, out, err = lra("leaderboard", "--results", str(results))
    finally:
        damaged.unlink()
    assert code == 5
    assert "damaged.json" in err
    assert "toy:Mean" in out, "the good records still make a table"


def test_plots_of_a_board(lra: Call, results: Path, tmp_path: Path) -> None:
    for figure in ("heat", "curves"):
        out = tmp_path / f"{figure}.png"
        assert lra("plot", figure, "--results", str(results), "--out", str(out))[0] == 0
        assert out.read_bytes().startswith(b"\x89PNG")
    code, _, err = lra("plot", "accuracy", "--results", str(results))
    assert code == 2
    assert "no measuring session" in err
    code, _, err = lra("plot", "heat", "--board", "nothing like it", "--results", str(results))
    assert code == 2
    assert "There are: " in err
    assert lra("plot", "growth", "--results", str(results))[0] == 2
    assert "has no records" in lra("plot", "heat", "--results", str(tmp_path))[2]


def test_two_folders_that_disagree_are_a_conflict(lra: Call, results: Path, tmp_path: Path) -> None:
    (path,) = record_files(results)
    content = json.loads(path.read_text())
    same = tmp_path / "same" / path.relative_to(results)
    same.parent.mkdir(parents=True)
    same.write_text(path.read_text())
    content["accuracy"]["best"]["accuracy"] = 0.123
    other = tmp_path / "other" / path.relative_to(results)
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps(content))
    folders = ["--results", str(results), "--results", str(tmp_path / "same"), "--out", str(tmp_path)]
    code, _, err = lra("leaderboard", *folders)
    assert (code, err) == (0, "")
    _, _, err = lra("leaderboard", *folders, "--results", str(tmp_path / "other"))
    assert "Conflict" in err
    assert "0.1230" in err
    assert len(json.loads(lra("leaderboard", *folders, "--json")[1])) == 1


def test_leaderboard_of_no_folder(lra: Call, tmp_path: Path) -> None:
    code, _, err = lra("leaderboard", "--results", str(tmp_path / "absent"))
    assert code == 2
    assert "no such folder" in err


def test_env_is_json(lra: Call) -> None:
    content = json.loads(lra("env", "--json")[1])
    assert content["device"]["slug"].startswith("cpu-")


def test_data_prepare_verify_list_export_clean(
    lra: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    options = []
    for option in ("train_size=40", "validation_size=10", "test_size=10", "min_length=20", "max_length=60"):
        options += ["--set", f"task.{option}"]
    code, first, err = lra("data", "prepare", "listops", "--all", *options)
    assert code == 0, err
    assert first.count("SHA-256") == 3
    code, out, err = lra("data", "verify", "listops", "--all", "--json", *options)
    assert code == 0, err
    splits = json.loads(out)["listops"]["splits"]
    assert [split["examples"] for split in splits.values()] == [40, 10, 10]
    assert all(split["sha256"] in first for split in splits.values())
    code, out, err = lra("data", "verify", "listops", "--all", *options)
    assert code == 0, err
    assert "train and test share 0 examples" in out
    listed = json.loads(lra("data", "list", "--json")[1])["prepared"]
    assert {(row["split"], row["examples"]) for row in listed} == {
        ("train", 40),
        ("validation", 10),
        ("test", 10),
    }
    assert all(row["sha256"] in first for row in listed)
    assert "listops" in lra("data", "list")[1]
    code, _, err = lra("data", "export", "listops", "--out", str(tmp_path / "tsv"), *options)
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "tsv").glob("*.tsv")) == [
        "basic_test.tsv",
        "basic_train.tsv",
        "basic_val.tsv",
    ]
    assert lra("data", "clean", "listops", "--yes")[0] == 0
    assert "Nothing prepared" in lra("data", "list")[1]
    code, _, err = lra("data", "prepare", "listops", "--set", "budget.steps=3")
    assert code == 2
