"""Each seed counts once, and a name stands for one code."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from altered import altered

from lra_bench.latest import choose
from lra_bench.records import RunRecord
from lra_bench.regression.records import compare_records
from lra_bench.report.leaderboard import leaderboard


def ids(records: list[RunRecord]) -> set[str]:
    return {record.run_id for record in records}


def test_a_seed_run_with_other_measurements_is_still_one_seed(base: RunRecord) -> None:
    records = [
        altered(base, "a", metrics=["accuracy", "flops"], seed=0),
        altered(base, "b", metrics=["accuracy", "time", "flops"], seed=0),
        altered(base, "c", metrics=["accuracy", "flops"], seed=1),
    ]
    for order in itertools.permutations(records):
        chosen = choose(order)
        assert ids(chosen.records) == {"b", "c"}
        assert ids(chosen.repeated) == {"a"}
        board = leaderboard(order).boards[0]
        assert [row.scores[0].summary.seeds for row in board.rows if row.scores[0].summary] == [2]
        assert (
            "Left out 1 run of a seed that another run stands for, with a score or more measurements."
            in board.notes
        )


def test_of_a_seed_the_record_with_a_score_stands(base: RunRecord) -> None:
    records = [
        altered(base, "a", metrics=["accuracy"]),
        altered(base, "b", metrics=["time", "memory", "flops"], accuracy=None, verdict=None),
    ]
    assert ids(choose(records).records) == {"a"}


@pytest.mark.parametrize(
    "change",
    [
        {"device": "another"},
        {"protocol__sha256": "f" * 64},
        {"protocol__overrides": {"budget.steps": 7}},
        {"protocol__tuning_trials": 4},
        {"precision": "bf16"},
        {"compiled": True},
        {"model__name": "another"},
        {"model__options": {"rank": 3}},
        {"task__name": "another"},
        {"task__splits__test__sha256": "f" * 64},
        {"seed": 5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_differs_in_anything_else_stands_beside_it(base: RunRecord, change: dict[str, Any]) -> None:
    records = [altered(base, "a"), altered(base, "b", **change)]
    chosen = choose(records)
    assert chosen.records == records
    assert not chosen.repeated
    assert not chosen.older_code


@pytest.mark.parametrize("part", ["model", "task"])
def test_a_name_stands_for_the_code_it_was_last_run_with(base: RunRecord, part: str) -> None:
    key = f"{part}__source"
    records = [
        altered(base, "a", **{key: "1" * 64}, seed=0, provenance__finished="2026-01-02T00:00:00+00:00"),
        altered(base, "b", **{key: "1" * 64}, seed=1, provenance__finished="2026-01-03T00:00:00+00:00"),
        altered(base, "c", **{key: "0" * 64}, seed=0, provenance__finished="2026-01-04T00:00:00+00:00"),
        altered(base, "d", device="another", **{key: "1" * 64}),
    ]
    for order in itertools.permutations(records):
        chosen = choose(order)
        assert ids(chosen.records) == {"c", "d"}
        assert ids(chosen.older_code) == {"a", "b"}


def test_a_comparison_counts_a_seed_once(base: RunRecord) -> None:
    side = [altered(base, "a", metrics=["accuracy"]), altered(base, "b", metrics=["accuracy", "flops"])]
    found = [one for one in compare_records(side, [base]) if one.metric == "accuracy"]
    assert [one.note for one in found] == ["1 and 1 seeds"]
