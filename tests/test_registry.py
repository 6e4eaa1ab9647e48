"""Catalogs are data: exact names, near misses, dotted paths, options, no heavy imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from lra_bench import registry
from lra_bench.errors import LraBenchError, OptionError, UsageError
from lra_bench.mixer import CONTRACT_ARGUMENTS


class Plain:
    def __init__(self, *, rank: int = 4, mode: Literal["a", "b"] = "a", scale: float = 1.0) -> None: ...


PLAIN = registry.Entry("plain", "mixer", f"{__name__}:Plain", "A test.")


def resolve(entry: registry.Entry, given: dict) -> dict:
    return registry.resolve_options(entry, given, frozenset(), "Model")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.Entry, "load", lambda self: Plain if self.name == "plain" else _load(self))


_load = registry.Entry.load


def test_names_are_exact_and_near_misses_are_named() -> None:
    assert registry.models.get("linformer").family == "low_rank"
    with pytest.raises(UsageError, match="Did you mean linformer"):
        registry.models.get("linforner")
    # A prefix is not a name: the forks of the original dispatched on prefixes.
    with pytest.raises(UsageError, match="performer"):
        registry.models.get("perf")


def test_every_catalog_entry_loads_and_has_a_card() -> None:
    for catalog in (registry.models, registry.tasks):
        for entry in catalog:
            assert entry.load().__doc__, entry.name
            assert entry.summary.endswith("."), entry.name
            assert entry.is_control or entry.paper, f"{entry.name} names no paper"
            assert not entry.is_control or entry.rules_out, f"{entry.name} doesn't say what it rules out"


def test_controls_of_tasks_exist_and_apply() -> None:
    for task in registry.tasks:
        assert task.controls, f"{task.name} has no control"
        for name in task.controls:
            control = registry.models.get(name)
            assert control.is_control
            assert not control.tasks or task.name in control.tasks


def test_dotted_path() -> None:
    entry = registry.models.get("toy:Mean")
    assert entry.kind == "mixer"
    assert entry.summary.startswith("Every token gets the mean")
    with pytest.raises(UsageError, match="has no 'Meen'"):
        registry.models.get("toy:Meen")
    with pytest.raises(UsageError, match="cannot import"):
        registry.models.get("no_such_package.module:Thing")


def test_options_are_typed_and_unknown_ones_refused() -> None:
    assert resolve(PLAIN, {"rank": "8"}) == {"rank": 8, "mode": "a", "scale": 1.0}
    with pytest.raises(UsageError, match=r"no option 'rnak'. Did you mean rank"):
        resolve(PLAIN, {"rnak": 8})
    with pytest.raises(OptionError, match="rank='many'"):
        resolve(PLAIN, {"rank": "many"})
    with pytest.raises(OptionError, match="mode='c'"):
        resolve(PLAIN, {"mode": "c"})


def test_presets_of_a_card_lie_between_defaults_and_the_user() -> None:
    preset = registry.Entry("plain", "mixer", "x:y", "A test.", options={"rank": 7, "scale": 2.0})
    assert resolve(preset, {"scale": 3.0}) == {"rank": 7, "mode": "a", "scale": 3.0}


def test_contract_arguments_are_not_options() -> None:
    entry = registry.models.get("linformer")
    with pytest.raises(UsageError, match="no option 'head_dim'"):
        registry.resolve_options(entry, {"head_dim": 3}, CONTRACT_ARGUMENTS, "Model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: {kind: mixer, target: 'm:A', summary: A., famly: exact}",
            "unknown key 'famly'. Did you mean family",
        ),
        ("a: {kind: mixer, summary: A.}", "incomplete"),
        (
            "a: {kind: mixer, target: 'm:A', summary: A.}\na: {kind: mixer, target: 'm:B', summary: B.}",
            "twice",
        ),
        ("- a", "expected a mapping"),
    ],
)
def test_faults_of_a_catalog(text: str, message: str) -> None:
    with pytest.raises(LraBenchError, match=message):
        registry.parse_catalog(text, "catalog.yaml")


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, lra_bench.cli.main as m\n"
        "from lra_bench.cli.list import _models, _tasks, _protocols\n"
        "assert _models() and _tasks() and _protocols()\n"
        "print([n for n in ('torch', 'numba', 'datasets', 'pandas', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_package_folder_is_installed() -> None:
    """A family folder that packaging misses would be absent from the wheel."""
    import importlib

    root = Path(__file__).resolve().parents[1]
    for top, package in (("models", "lra_bench.models"), ("tasks", "lra_bench.tasks")):
        for init in (root / top).rglob("__init__.py"):
            below = init.parent.relative_to(root / top).parts
            importlib.import_module(".".join([package, *below]))
