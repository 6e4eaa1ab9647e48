"""Somebody else's classes, by dotted path and by a name that an installed package offers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lra_bench import registry
from lra_bench.building import check_contract
from lra_bench.errors import UsageError

MIXER = """
from lra_bench.mixer import Cost, TokenMixer
class Mine(TokenMixer):
    '''Mine.'''
    def forward(self, x, mask=None):
        return x
    @classmethod
    def cost(cls, length, dim, num_heads, **options):
        return Cost(1, 1)
class Half(TokenMixer):
    '''Lacks what it costs.'''
    def forward(self, x, mask=None):
        return x
class Plain:
    '''No module at all.'''
class Wrong(Mine):
    card = {"kind": "mixr"}
class Stack(Mine):
    card = {"kind": "encoder"}
def function():
    pass
"""
Install = Callable[..., registry.Registry]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts packages where they are found, as pip would, and gives a registry that has not looked yet."""
    count = 0

    def installed(names: dict[str, str], module: str = MIXER) -> registry.Registry:
        nonlocal count
        count += 1
        site = tmp_path / f"site{count}"
        info = site / f"outside{count}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: outside{count}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in names.items()]
        (info / "entry_points.txt").write_text("\n".join(["[lra_bench.models]", *lines]))
        (site / f"outside{count}.py").write_text(module)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, f"outside{count}", raising=False)  # another test's
        return registry.Registry("model", "lra_bench.models", "lra_bench.models")

    return installed


def test_an_offered_name_is_a_name(install: Install) -> None:
    models = install({"mine": "outside1:Mine"})
    assert models.get("mine").summary == "Mine."
    assert models.get("mine").load() is models.get("outside1:Mine").load()
    assert "mine" in models.names()
    assert [entry.name for entry in models.match("mi*")] == ["mine"]
    assert "mine" not in [entry.name for entry in models], "the catalog is the same everywhere"
    with pytest.raises(UsageError, match="Did you mean mine"):
        models.get("mien")


def test_what_cannot_be_imported_harms_nothing_but_its_own_name(install: Install) -> None:
    models = install({"mine": "outside1:Mine"}, "import no_such_dependency")
    assert models.get("linformer").family == "low_rank"
    assert "mine" in models.names()
    assert [entry.name for entry in models.match("lin*")] == ["linformer", "linear_transformer"]
    with pytest.raises(UsageError, match=r"mine: cannot import outside1: .*'no_such_dependency'.*line 1\)"):
        models.get("mine")


def test_a_name_stands_for_one_thing(install: Install) -> None:
    taken = install({"linformer": "outside1:Mine"})
    with pytest.raises(UsageError, match=r"'linformer' stands for .* outside1:Mine of outside1 1.0.*Rename"):
        taken.get("linformer")
    install({"mine": "outside2:Mine"})
    twice = install({"mine": "outside3:Mine"})
    with pytest.raises(UsageError, match=r"outside3:Mine of outside3 1.0; outside2:Mine of outside2 1.0"):
        twice.get("mine")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_package.part:Mine", r"'no_such_package' is neither installed nor in .*pip install -e"),
        ("lra_bench.mixr:Mine", r"lra_bench has no module 'mixr'. Did you mean mixer"),
        ("outside1:Mime", r"outside1 has no 'Mime'. Did you mean Mine"),
        ("outside1:function", r"not a class but a function"),
        ("outside1.Mine", r"named package.module:Class, here outside1:Mine"),
        ("outside1:", r"names no class: expected package.module:Class"),
        (":Mine", r"names no class"),
        ("outside1:Wrong", r"its `card` is not one. .* unknown kind 'mixr'"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(install: Install, target: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        install({}).get(target)


def test_a_module_with_a_fault_is_named_with_its_line(install: Install) -> None:
    models = install({}, "x = 1\nx.y = 2\n")
    with pytest.raises(UsageError, match=r"AttributeError: .*outside1.py, line 2\)"):
        models.get("outside1:Mine")
    install({}, "x = (\n")
    with pytest.raises(UsageError, match=r"SyntaxError: .*outside2.py, line 1\)"):
        models.get("outside2:Mine")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("outside1:Plain", r"is no TokenMixer.*subclass lra_bench.mixer.TokenMixer.*none of the other kinds"),
        ("outside1:Stack", r"is no EncoderStack.*could be of kind mixer"),
        ("outside1:Half", r"lacks what it has to have: cost"),
        ("toy:Evens", r"is no TokenMixer"),
    ],
)
def test_a_class_that_is_no_model_is_refused(install: Install, target: str, words: str) -> None:
    entry = install({}).get(target)
    with pytest.raises(UsageError, match=words):
        check_contract(entry)


def test_every_registered_model_is_one_of_its_kind() -> None:
    for entry in registry.models:
        check_contract(entry)


def test_listing_imports_no_package_and_says_what_clashes(install: Install) -> None:
    install({"mine": "outside1:Mine", "linformer": "outside1:Mine"}, "raise SystemExit('imported')")
    code = (
        f"import sys; sys.path[:0] = {sys.path[:1]!r}\n"
        "sys.argv = ['lra-bench', 'list', 'models', '*in*', '--json']\n"
        "from lra_bench.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = {row["name"]: row["summary"] for row in json.loads(done.stdout)}
    assert "outside1:Mine of outside1 1.0" in listed["mine"]
    assert "'linformer' stands for more than one model" in done.stderr
