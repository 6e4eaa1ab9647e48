"""CONTRIBUTING.md's two recipes, followed to the letter on a copy of the installed package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from harness import write_protocol

import lra_bench.models
import lra_bench.tasks

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n\s*```\w+\n(.*?)\n\s*```", re.DOTALL)


def examples() -> dict[str, str]:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    return {path: textwrap.dedent(code) for path, code in EXAMPLE.findall(text)}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of lra_bench as it is when installed, and the examples added to it."""
    folder = tmp_path_factory.mktemp("site")
    target = folder / "lra_bench"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(lra_bench.__file__).parent, target, ignore=ignore, dirs_exist_ok=True)
    for name, module in (("models", lra_bench.models), ("tasks", lra_bench.tasks)):
        shutil.copytree(Path(module.__path__[0]), target / name, ignore=ignore, dirs_exist_ok=True)
    found = examples()
    assert len(found) == 4, "two files and two catalog entries"
    for path, code in found.items():
        place = target / path
        if place.suffix == ".yaml":
            place.write_text(place.read_text("utf-8") + "\n" + code + "\n", "utf-8")
        else:
            assert not place.exists(), f"{path} is taken: choose another example"
            place.write_text(code + "\n", "utf-8")
    return folder


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A program of its own: an editable installation's finder would otherwise win.
    program = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        f"sys.path.insert(0, {str(package)!r}); "
        "import lra_bench; assert lra_bench.__file__.startswith(sys.path[0]); "
        "exec(sys.argv[1])"
    )
    environment = {**os.environ, "LRA_BENCH_CACHE": str(package / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        cwd=package,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_both_are_listed(package: Path) -> None:
    code = "from lra_bench import registry as r; r.models.get('squared_relu'); r.tasks.get('first_is_last')"
    done = run(package, code)
    assert done.returncode == 0, done.stderr


def test_the_model_trains_on_the_task(package: Path, tmp_path: Path) -> None:
    code = f"""
import pathlib
import lra_bench.job, lra_bench.phases as phases
from lra_bench.cell import resolve_cell
cell = resolve_cell('squared_relu', 'first_is_last', protocol={str(write_protocol(tmp_path))!r}, device='cpu',
                    metrics=('accuracy', 'flops'), assignments={{'model.power': 3}})
record = phases.CellRun(lra_bench.job.Job(cell, pathlib.Path('results')), lambda _: None, lambda: False).run()
assert record.status == 'ok', record.reason
assert record.accuracy.best.n == 2000
one_layer = cell.model_entry.load().cost(64, 8, 2, head_dim=4, power=3).flops
ffn, head = 64 * 2 * 2 * 8 * 16, 2 * (8 * 16 + 16 * 2)
assert record.flops.forward == 16 * (one_layer + ffn + head), (record.flops.forward, one_layer)
"""
    done = run(package, code)
    assert done.returncode == 0, done.stderr
