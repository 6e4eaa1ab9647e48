"""The commands in README and docs exist, and README's Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from calling import Call
from small_data import write_small_data

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [README, *(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]
LINES = [
    line.partition("#")[0].strip()
    for document in DOCUMENTS
    for block in re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("lra-bench ")
]
COMMANDS = [*dict.fromkeys(LINES)]
"""Each once, in order."""
FILES = {
    name: content
    for document in DOCUMENTS
    for name, content in re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", document, re.DOTALL)
}
"""Files that commands name, as the documents show them."""


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lra: Call) -> None:
    """Runs are only planned, data are only listed: that names, options and values are right is the point."""
    mine = "broken:Correct" if command.startswith("lra-bench validate") else "toy:Mean"
    words = shlex.split(command.replace("my_package.module:MyMixer", mine))
    if words[1] == "bench":
        words += ["--dry-run", "--device", "cpu", "--lengths", "64"]
    elif words[1] in ("run", "sweep"):
        words += ["--dry-run", "--device", "cpu"]
    elif (
        words[1] in ("check", "compare", "history")
        or words[1:3]
        in (
            ["data", "prepare"],
            ["data", "verify"],
            ["env", "--check"],
        )
        or "--into" in words
    ):
        words += ["--help"]
    elif words[1] == "leaderboard":
        (tmp_path / "results").mkdir()
    if "--data-dir" in words:
        words[words.index("--data-dir") + 1] = str(write_small_data(tmp_path / "data"))
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LRA_BENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    done = lra(*words[1:])
    assert done.code == 0, done.err


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet as it stands, but for fewer images and a run of toys."""
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    smaller = snippet.replace("count=20_000", "count=64")
    smaller, replaced = re.subn(r"record = run\(.*\)\n", "", smaller)
    assert replaced == 1
    assert smaller != snippet
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(smaller, names)
    assert names["batch"].input_ids.shape == (32, 1024)
    assert names["batch"].mask is None
    assert names["records"] == []
