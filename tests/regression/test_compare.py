"""`compare`: what differs between two sets of records."""

from __future__ import annotations

from typing import Any

import pytest

from lra_bench.errors import UsageError
from lra_bench.records import RunRecord
from lra_bench.regression.records import compare_records


def altered(base: RunRecord, accuracy: float = 0.5, name: str = "transformer", core: int = 100) -> RunRecord:
    content: dict[str, Any] = base.model_dump(by_alias=True)
    content["model"]["name"] = name
    content["model"]["parameters"] |= {"core": core}
    half = 0.02
    content["accuracy"]["best"] |= {
        "accuracy": accuracy,
        "n": 1000,
        "correct": round(1000 * accuracy),
        "interval": (accuracy - half, accuracy + half),
    }
    return RunRecord.model_validate(content)


def test_equal_sets_differ_in_nothing(base: RunRecord) -> None:
    found = compare_records([base], [base])
    assert {one.verdict for one in found} <= {"same", "not compared"}
    assert "accuracy" in {one.metric for one in found}


@pytest.mark.parametrize(("now", "verdict"), [(0.53, "same"), (0.55, "better"), (0.45, "worse")])
def test_accuracies_differ_where_their_intervals_do(base: RunRecord, now: float, verdict: str) -> None:
    (found,) = [
        one for one in compare_records([altered(base)], [altered(base, now)]) if one.metric == "accuracy"
    ]
    assert (found.before, found.after, found.verdict) == (0.5, now, verdict)


def test_cells_of_one_side_are_named(base: RunRecord) -> None:
    before = [altered(base), altered(base, name="fnet")]
    after = [altered(base, core=101), altered(base, name="local")]
    found = {(one.model, one.metric): one.verdict for one in compare_records(before, after)}
    assert found[("fnet", "cell")] == "vanished"
    assert found[("local", "cell")] == "new"
    assert found[("transformer", "parameters")] == "worse"


def test_sets_without_a_common_cell_are_an_error(base: RunRecord) -> None:
    with pytest.raises(UsageError, match="no cell in common"):
        compare_records([altered(base)], [altered(base, name="fnet")])
