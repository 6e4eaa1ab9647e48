"""Protocols: what ships, how overrides change the hash, and that no key is silently ignored."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from toy import PROTOCOL

from lra_bench import protocol as protocols
from lra_bench.errors import UsageError
from lra_bench.protocol import Protocol


def write(folder: Path, content: object) -> str:
    path = folder / "own.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_shipped_protocols_load() -> None:
    assert protocols.names() == ["quick", "lite", "lra-2020"]
    for name in protocols.names():
        assert protocols.load(name).name == name


def test_base_configuration_of_the_2020_release() -> None:
    """Figures of the release's configuration files, not of the paper's text."""
    lra = protocols.load("lra-2020")
    listops = lra.settings("listops")
    shape = listops.architecture
    assert (shape.num_layers, shape.num_heads, shape.dim, shape.ffn_dim) == (4, 8, 512, 1024)
    assert shape.num_heads * shape.head_dim == 512
    assert (listops.optimizer.learning_rate, listops.optimizer.weight_decay) == (0.05, 0.1)
    assert (listops.budget.steps, listops.budget.batch_size) == (5000, 32)
    pathfinder = lra.settings("pathfinder")
    shape = pathfinder.architecture
    assert (shape.num_layers, shape.num_heads, shape.dim, shape.ffn_dim) == (1, 2, 32, 32)
    assert shape.num_heads * shape.head_dim == 16
    assert (pathfinder.budget.steps, pathfinder.budget.batch_size) == (62_400, 512)
    assert lra.settings("pathx").optimizer.gradient_clip_norm == 1.0


def test_lite_is_the_small_network_of_the_literature() -> None:
    shape = protocols.load("lite").settings("listops").architecture
    assert (shape.num_layers, shape.dim, shape.ffn_dim) == (2, 64, 128)
    assert (shape.num_heads, shape.head_dim) == (2, 32)


def test_overrides_reach_the_settings() -> None:
    quick = protocols.load("quick")
    settings = quick.settings("pathfinder", overrides={"budget.steps": 7, "optimizer.betas": [0.5, 0.6]})
    assert settings.budget.steps == 7
    assert settings.optimizer.betas == (0.5, 0.6)
    assert quick.settings("pathfinder").budget.steps != 7


def test_a_shorter_run_keeps_a_warm_up_that_fits() -> None:
    lite = protocols.load("lite")
    assert lite.settings("listops", overrides={"budget.steps": 50}).schedule.warmup_steps == 5
    with pytest.raises(UsageError, match="warmup_steps=60 exceeds"):
        lite.settings("listops", overrides={"budget.steps": 50, "schedule.warmup_steps": 60})


def test_every_leaf_changes_the_hash_except_prose() -> None:
    base = Protocol.model_validate(PROTOCOL)
    for section, values in PROTOCOL["defaults"].items():
        for key in values:
            changed = copy.deepcopy(PROTOCOL)
            changed["defaults"][section][key] = "changed"
            assert Protocol.model_validate(changed).sha256 != base.sha256, (section, key)
    prose = Protocol.model_validate({**PROTOCOL, "summary": "Other words."})
    assert prose.sha256 == base.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("defaults", "budget", "stpes", 3), "budget.stpes'. Did you mean steps"),
        (("defaults", "budget", "steps", -1), "budget.steps"),
        (("defaults", "architecture", "pooling", "max"), "architecture.pooling"),
        (("tasks", "listops", "budgt", {"steps": 3}), "budgt'. Did you mean budget"),
        (("controls", "optimiser", "learning_rate", 3), "optimiser'. Did you mean optimizer"),
    ],
)
def test_unknown_keys_and_bad_values_are_errors(tmp_path: Path, change: tuple, message: str) -> None:
    content = copy.deepcopy(PROTOCOL)
    node = content
    for key in change[:-2]:
        node = node.setdefault(key, {})
    node[change[-2]] = change[-1]
    with pytest.raises(UsageError, match=message):
        protocols.load(write(tmp_path, content))


def test_top_level_key_that_nothing_reads(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown key 'patience'"):
        protocols.load(write(tmp_path, {**PROTOCOL, "patience": 3}))


def test_missing_key(tmp_path: Path) -> None:
    content = copy.deepcopy(PROTOCOL)
    del content["defaults"]["optimizer"]["betas"]
    with pytest.raises(UsageError, match=r"optimizer\.betas is missing"):
        protocols.load(write(tmp_path, content))


def test_files(tmp_path: Path) -> None:
    assert protocols.load(write(tmp_path, PROTOCOL)).name == "toy"
    with pytest.raises(UsageError, match="not valid YAML"):
        protocols.load(write(tmp_path, "a: [1"))
    with pytest.raises(UsageError, match="Did you mean lite"):
        protocols.load("light")
    with pytest.raises(UsageError, match="Cannot read"):
        protocols.load(str(tmp_path / "absent.yaml"))
