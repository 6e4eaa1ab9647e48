"""What a measuring session resolves before any work, and what it refuses."""

import pytest

from lra_bench.bench.plan import match_networks, resolve_plan
from lra_bench.errors import OptionError, UsageError
from lra_bench.registry import models


def plan_of(*arguments, **changes):
    return resolve_plan(*arguments, **{"device": "cpu", **changes})


def test_by_default_every_network_that_is_no_control():
    named = {entry.name for entry in match_networks(None)}
    assert named == {e.name for e in models if e.kind in ("mixer", "encoder") and not e.is_control}
    assert len(named) >= 24


def test_globs_and_names():
    assert [e.name for e in match_networks(["local", "perf*"])] == ["local", "performer"]
    with pytest.raises(UsageError, match="linformer"):
        match_networks(["linf0rmer*"])
    with pytest.raises(UsageError, match="Did you mean performer"):
        match_networks(["performr"])
    with pytest.raises(UsageError, match="classifier"):
        match_networks(["bag_of_tokens"])


def test_a_reference_in_every_group_and_the_explicit_one_once_a_length():
    plan = plan_of(["fnet", "local", "s4d"], [64, 32, 64], compiled=(False, True), group_size=2)
    assert plan.lengths == (32, 64)
    for group in plan.groups:
        assert (group[0].model, group[0].role) == ("transformer", "reference")
        assert len({(cell.length, cell.compiled) for cell in group}) == 1
    cells = [cell for group in plan.groups for cell in group[1:]]
    keys = [(cell.model, cell.length, cell.compiled) for cell in cells]
    assert sorted(keys) == sorted(
        (model, length, compiled)
        for model in ("fnet", "local", "s4d", "transformer_explicit")
        for length in (32, 64)
        for compiled in (False, True)
    )
    names = [cell.file_name for group in plan.groups for cell in group]
    assert len(set(names)) == len(names)


def test_options_reach_the_models_that_were_named_and_not_what_they_are_compared_with():
    plan = plan_of(["linformer", "transformer"], [32], assignments={"model.rank": 7, "architecture.dim": 32})
    assert plan.changed_options["linformer"] == {"rank": 7}
    assert plan.changed_options["transformer"] == {}
    assert plan.settings.architecture.dim == 32
    assert plan.overrides == {"architecture.dim": 32, "budget.batch_size": 4}
    with pytest.raises(UsageError, match="keep their defaults"):
        plan_of(["transformer"], [32], assignments={"model.rank": 7})
    with pytest.raises(UsageError, match="fnet has no option 'rank'"):
        plan_of(["linformer", "fnet"], [32], assignments={"model.rank": 7})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "fp16"),
        ({"device": "tpu"}, "tpu"),
        ({"protocol": "quik"}, "quick"),
        ({"assignments": {"architecture.dmi": 3}}, "dim"),
        ({"assignments": {"task.length": 3}}, "no task"),
        ({"cell_seconds": 0}, "cell_seconds"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_can_not_be_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        plan_of(["fnet"], [32], **changes)


def test_the_batch_is_small_on_a_cpu_unless_asked_for():
    assert plan_of(["fnet"], [32]).settings.budget.batch_size == 4
    assert plan_of(["fnet"], [32], batch_size=7).settings.budget.batch_size == 7
    asked = plan_of(["fnet"], [32], assignments={"budget.batch_size": 9})
    assert asked.settings.budget.batch_size == 9


def test_lengths_are_checked():
    with pytest.raises(OptionError, match="lengths"):
        plan_of(["fnet"], [0])


def test_one_plan_has_one_hash():
    one, same = plan_of(["fnet"], [32]), plan_of(["fnet"], [32])
    assert one.sha256 == same.sha256
    for other in ({"batch_size": 3}, {"padded": True}, {"mode": "forward"}, {"cell_seconds": 3.0}):
        assert plan_of(["fnet"], [32], **other).sha256 != one.sha256
