"""Plans: from the command line and from a file, and the cells that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import write_protocol

from lra_bench.errors import UsageError
from lra_bench.launch.ray_options import RayOptions
from lra_bench.launch.slurm_options import SlurmOptions
from lra_bench.sweep.cells import Item, resolve_items
from lra_bench.sweep.plan import SweepPlan, load_plan, parse_axes, with_launcher_settings

MODELS = "toy:Mean,toy:Plain"


@pytest.fixture
def protocol(tmp_path: Path) -> str:
    return str(write_protocol(tmp_path))


def plan(protocol: str, **changes: Any) -> SweepPlan:
    given = {"models": MODELS, "tasks": "toy:Evens", "protocol": protocol, "device": "cpu", **changes}
    return load_plan(None, given)


def shown(items: list[Item]) -> list[tuple[str, int, dict[str, Any]]]:
    return [(item.cell.model, item.cell.seed, item.cell.changed_options) for item in items]


def test_axes_seeds_and_models_that_lack_an_option(protocol: str) -> None:
    axes = parse_axes(["model.gain=1,2", "budget.steps=3"])
    found = shown(resolve_items(plan(protocol, seeds=2, settings=axes)))
    one_seed = [("toy:Mean", {}), ("toy:Mean", {"gain": 2.0}), ("toy:Plain", {})]
    assert found == [(model, seed, options) for seed in (0, 1) for model, options in one_seed]


def test_an_option_that_nobody_has(protocol: str) -> None:
    with pytest.raises(UsageError, match=r"model\.gian.*Did you mean gain"):
        resolve_items(plan(protocol, settings={"model.gian": 2}))
    with pytest.raises(UsageError, match=r"task\.lenght.*Did you mean length"):
        resolve_items(plan(protocol, settings={"task.lenght": 9}))
    with pytest.raises(UsageError, match="Did you mean steps"):
        resolve_items(plan(protocol, settings={"budget.stpes": 9}))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("model.rank=32,64", [32, 64]),
        ("model.rank=32", [32]),
        ("optimizer.betas=[0.9,0.98]", [[0.9, 0.98]]),
        ("optimizer.betas=[0.9,0.98],[0.8,0.9]", [[0.9, 0.98], [0.8, 0.9]]),
        ("model.sharing=layerwise,'a,b'", ["layerwise", "a,b"]),
        ("budget.time_limit_s=null", [None]),
        ("model.bias=true,false", [True, False]),
    ],
)
def test_what_stands_between_commas(text: str, values: list[Any]) -> None:
    assert list(parse_axes([text]).values()) == [values]


def test_a_list_in_brackets_is_one_value(protocol: str) -> None:
    items = resolve_items(plan(protocol, settings=parse_axes(["optimizer.betas=[0.5,0.6]"])))
    assert {item.cell.settings.optimizer.betas for item in items} == {(0.5, 0.6)}


def test_a_file_says_the_same_as_the_command_line(protocol: str, tmp_path: Path) -> None:
    given = {
        "models": MODELS,
        "tasks": "toy:Evens",
        "seeds": 3,
        "settings": parse_axes(["model.gain=1,2", "optimizer.betas=[0.5,0.6]"]),
        "protocol": protocol,
        "metrics": "accuracy,flops",
        "device": "cpu",
        "shard": "2/3",
        "time_limit_s": 60.0,
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "models": ["toy:Mean", "toy:Plain"],
                "tasks": ["toy:Evens"],
                "seeds": [0, 1, 2],
                "settings": {"model.gain": [1, 2], "optimizer.betas": [[0.5, 0.6]]},
                "protocol": protocol,
                "metrics": ["accuracy", "flops"],
                "device": "cpu",
                "shard": "2/3",
                "time_limit_s": 60,
            }
        )
    )
    from_file, from_line = load_plan(file, {}), load_plan(None, given)
    assert from_file == from_line
    assert resolve_items(from_file) == resolve_items(from_line)
    assert load_plan(file, {"shard": "1/3", "settings": {"model.gain": 7}}) == load_plan(
        None, {**given, "shard": "1/3", "settings": {**given["settings"], "model.gain": 7}}
    ), "the command line wins, key by key"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"modles": ["a"]}, "unknown key 'modles'. Did you mean models"),
        ({"seeds": 0}, "at least 1"),
        ({"seeds": [1, 1]}, "each once"),
        ({"shard": "3"}, "expected i/n"),
        ({"shard": "5/4"}, "expected 1/n to n/n"),
        ({"shard": "0/4"}, "expected 1/n to n/n"),
        ({"launcher": "slrum"}, "'local', 'slurm' or 'ray'"),
        ({"retry": "all"}, "failed"),
        ({"tune": -1}, "tune"),
        ({"models": []}, "name at least one task, and models"),
        ({"settings": {"modle.gain": 1}}, "Did you mean model"),
        ({"settings": {"model.gain": []}}, "has no value"),
        ({"metrics": "accuracy,speed"}, "metrics"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"models": ["toy:Mean"], "tasks": ["toy:Evens"], **content}))
    with pytest.raises(UsageError, match=message):
        load_plan(file, {})


def test_shards_are_a_partition_whatever_else_is_asked(protocol: str) -> None:
    whole = {item.cell.run_id for item in resolve_items(plan(protocol, seeds=8))}
    parts = [
        {item.cell.run_id for item in resolve_items(plan(protocol, seeds=8, shard=f"{number}/3"))}
        for number in (1, 2, 3)
    ]
    assert set.union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)
    more = resolve_items(plan(protocol, models="toy:Plain,toy:Mean", seeds=9, shard="2/3"))
    assert parts[1] <= {item.cell.run_id for item in more}


def test_controls_come_first_and_once_and_with_every_shard() -> None:
    given = {
        "models": "linformer,majority,local",
        "tasks": "listops",
        "seeds": 2,
        "device": "cpu",
        "metrics": "accuracy",
    }
    items = resolve_items(load_plan(None, given))
    controls = ["majority", "bag_of_tokens", "first_token", "root_arguments"]
    assert [(item.cell.model, item.role) for item in items[:4]] == [(name, "control") for name in controls]
    # Named as a model as well, the control's first seed is the control itself.
    rest = [(item.cell.model, item.cell.seed) for item in items[4:]]
    assert rest == [("linformer", 0), ("local", 0), ("linformer", 1), ("majority", 1), ("local", 1)]
    assert all(
        [control.model for control in item.controls] == controls
        for item in items
        if item.cell.model != "majority" and item.role == "cell"
    )
    shards = [resolve_items(load_plan(None, {**given, "shard": f"{i}/4"})) for i in (1, 2, 3, 4)]
    for shard in shards:
        scored = [item for item in shard if item.cell.model in ("linformer", "local")]
        assert [item.cell.model for item in shard if item.role == "control"] == (controls if scored else [])


def test_ladders_and_globs() -> None:
    given = {"ablate": "groupbert,bigbird", "tasks": "recal?", "device": "cpu", "metrics": "flops"}
    items = resolve_items(load_plan(None, given))
    models = [item.cell.model for item in items]
    assert models.count("transformer") == 1, "a rung that two ladders share is one cell"
    assert {"groupbert", "bigbird"} <= set(models)
    assert not any(item.controls for item in items), "no score, no controls"
    globbed = resolve_items(load_plan(None, {**given, "ablate": "", "models": "*former"}))
    assert {"linformer", "performer"} <= {item.cell.model for item in globbed}
    with pytest.raises(UsageError, match="No task matches"):
        resolve_items(load_plan(None, {**given, "tasks": "list?"}))


def test_cells_of_other_machines_have_their_device(protocol: str) -> None:
    items = resolve_items(plan(protocol), there=("cuda", "nvidia-thing-1x80g"))
    assert {(item.cell.device, item.cell.device_slug) for item in items} == {("cuda", "nvidia-thing-1x80g")}


def test_the_launchers_settings(protocol: str) -> None:
    given = {"launcher": "slurm", "slurm": {"partition": "cpu", "time_min": 10}}
    on_slurm = plan(protocol, **given)
    changed = with_launcher_settings(on_slurm, ["partition=gpu", "additional={reservation: mine}"])
    assert changed.slurm == {"partition": "gpu", "time_min": 10, "additional": {"reservation": "mine"}}
    for wrong, message in (("partition", "KEY=VALUE"), ("a=[", "YAML")):
        with pytest.raises(UsageError, match=message):
            with_launcher_settings(on_slurm, [wrong])
    with pytest.raises(UsageError, match="slurm or ray"):
        with_launcher_settings(plan(protocol), ["partition=gpu"])


@pytest.mark.parametrize("name", ["slurm", "ray"])
def test_the_examples_of_the_documentation(name: str, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "CLUSTERS.md").read_text("utf-8")
    example = text.partition(f"<!-- file: {name}.yaml -->\n```yaml\n")[2].partition("```")[0]
    file = tmp_path / "sweep.yaml"
    file.write_text(example)
    loaded = load_plan(file, {})
    assert loaded.launcher == name
    options = {"slurm": SlurmOptions, "ray": RayOptions}[name].parse(getattr(loaded, name))
    assert options.model_fields_set == getattr(loaded, name).keys()
