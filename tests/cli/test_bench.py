"""`lra-bench bench`, `list sessions` and `show SESSION` as a user meets them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lra_bench.cli.bench import parse_lengths
from lra_bench.cli.main import app
from lra_bench.errors import UsageError

TINY = [
    "--processes",
    "1",
    "--set",
    "architecture.dim=8",
    "--set",
    "architecture.ffn_dim=8",
    "--device",
    "cpu",
]
TINY += ["--batch-size", "2", "--cell-seconds", "0.1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lengths", "1k"], "1024,2048"),
        (["--lengths", ","], "names no length"),
        (["--models", "linfromer"], "linformer"),
        (["--tables", "one.html"], ".md, .tex, .csv"),
        (["--device", "tpu"], "Did you mean cpu"),
        (["--set", "model.rank=3", "--models", "fnet"], "no option"),
    ],
)
def test_what_can_not_be_is_a_usage_error(arguments, message, lra):
    done = lra("bench", *arguments)
    assert done.code == 2
    assert message in done.err


def test_lengths_are_read():
    assert parse_lengths("16, 8") == [16, 8]
    with pytest.raises(UsageError):
        parse_lengths("")


def test_from_command_to_tables_list_and_show(tmp_path):
    results, tables = tmp_path / "results", tmp_path / "tables.md"
    given = ["bench", "--models", "fnet", "--lengths", "16", *TINY, "--results", str(results)]
    done = CliRunner().invoke(app, [*given, "--forward-only", "--padded", "--tables", str(tables)])
    assert done.exit_code == 0, done.output
    for part in ("Step time as a ratio to transformer", "fnet", "forward pass", "with masks", "Session:"):
        assert part in done.output
    assert "| fnet |" in tables.read_text()

    (folder,) = results.glob("bench/*/*")
    listed = json.loads(
        CliRunner().invoke(app, ["list", "sessions", "--results", str(results), "--json"]).output
    )
    assert [(one["name"], one["mode"], one["complete"]) for one in listed] == [
        (folder.name, "forward", "yes")
    ]
    shown = CliRunner().invoke(app, ["show", folder.name[:15], "--results", str(results)])
    assert "Peak memory" in shown.output
    rows = json.loads(
        CliRunner().invoke(app, ["show", folder.name, "--results", str(results), "--json"]).output
    )
    assert {row["model"] for row in rows} == {"transformer", "fnet", "transformer_explicit"}
    assert Path(tmp_path / "lock").exists() is False


def test_a_dry_run_predicts_and_measures_nothing(tmp_path):
    given = ["bench", "--models", "ill_mixers:Claiming,ill_mixers:ShortOnly", "--lengths", "16,64", *TINY]
    done = CliRunner().invoke(app, [*given, "--results", str(tmp_path / "results"), "--dry-run"])
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line.split()[1:] for line in done.output.splitlines() if line.strip()}
    assert "8 cells in 2 groups" in done.output
    assert lines["ill_mixers:ShortOnly"][-1] == "n/a"
    # Two layers keep 1e15 bytes for each of two sequences, and as much passes: 8e15 bytes, as GiB.
    assert lines["ill_mixers:Claiming"][:2] == [f"{8e15 / 2**30:.0f}", "GiB"]
    assert not (tmp_path / "results").exists()
