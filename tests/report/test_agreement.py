"""Our order of models beside published ones: tau by hand, over the models that both have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from board_rows import Row, score
from synthetic_session import cell, session

from lra_bench.report import agreement
from lra_bench.report.agreement import agreement_table
from lra_bench.report.published import PublishedCost, PublishedScore, all_published_scores, published_costs


def published(source: str, task: str, **percent: float | None) -> list[PublishedScore]:
    return [PublishedScore(source, name, name, task, value, "", "", "") for name, value in percent.items()]


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [
        *published("one", "text", a=60, b=61, c=62, d=63, e=64, nobody=1),
        *published("two", "text", a=64, b=63, c=62, d=61, e=None),
        *published("three", "text", a=1, b=2, c=3),
        *published("one", "image", a=1, b=2, c=3, d=4),
    ]
    monkeypatch.setattr(agreement, "all_published_scores", lambda: scores)


def board(**means: float | None) -> list[Any]:
    return [Row(name, "exact", [score("text", mean)]) for name, mean in means.items()]


def test_tau_counts_pairs_in_the_same_and_in_the_other_order(theirs: None) -> None:
    rows = board(a=0.2, b=0.1, c=0.3, d=0.4, e=0.5, unknown=0.9)
    one, two = agreement_table(rows, None, False).rows
    assert (one["of"], one["published by"], one["models"], one["at chance here"]) == ("text", "one", "5", "0")
    # Of ten pairs one, (a, b), is the other way round: (9 - 1) / 10. Of 120 orders 1 + 4 are as near to
    # theirs or nearer, and as many to the reverse.
    assert (one["tau"], one["p"]) == ("+0.80", "0.08")
    # Of six pairs five are: (1 - 5) / 6; 2 * (1 + 3) of 24.
    assert (two["models"], two["tau"], two["p"]) == ("4", "-0.67", "0.33")


def test_controls_other_options_and_missing_scores_are_left_out(theirs: None) -> None:
    rows = [*board(a=0.1, b=0.2, c=0.3, e=None), Row("d", "control", [score("text", 0.5)], control=True)]
    rows += [Row("d (rank=3)", "exact", [score("text", 0.5)])]
    assert agreement_table(rows, None, False).rows == []
    assert agreement_table([], None, False).rows == []


def test_models_without_an_order_have_no_tau(theirs: None) -> None:
    found = agreement_table(board(a=0.5, b=0.5, c=0.5, d=0.5), None, False).rows
    assert [(row["tau"], row["p"]) for row in found] == [("-", "-"), ("-", "-")]


def test_models_at_chance_have_no_order(theirs: None) -> None:
    def row(name: str, mean: float, verdict: str) -> Row:
        return Row(name, "exact", [replace(score("text", mean), verdict=verdict)])

    verdicts = ["chance", "chance", "chance", "above_controls"]
    for at_chance, expected in ((3, "-"), (2, "+1.00")):
        rows = [row(name, 0.1 * i, verdicts[i + 3 - at_chance]) for i, name in enumerate("abc")]
        rows.append(row("d", 0.9, "above_controls"))
        one, _two = agreement_table(rows, None, False).rows
        assert (one["at chance here"], one["tau"]) == (str(at_chance), expected)


def test_speed_and_memory_are_compared_at_the_length_of_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["transformer", "a", "b", "c"]
    costs = [
        PublishedCost("one", name, metric, length, value, "", "", "", "")
        for length, order in ((1024, [1, 2, 3, 4]), (2048, [4, 3, 2, 1]))
        for metric, values in (("steps_per_s", order), ("memory", [5 - value for value in order]))
        for name, value in zip(names, values, strict=True)
    ]
    monkeypatch.setattr(agreement, "published_costs", lambda: costs)
    cells = [
        cell(name, 1024, own_s=seconds, reference_s=None if name == "transformer" else 4.0, peak_bytes=size)
        for name, seconds, size in zip(names, (4.0, 3.0, 2.0, 1.0), (1, 2, 3, 4), strict=True)
    ]
    found = agreement_table([], session(cells), False).rows
    assert [(row["of"], row["tau"], row["at chance here"]) for row in found] == [
        ("step time, 1,024 tokens", "+1.00", ""),
        ("peak memory, 1,024 tokens", "-1.00", ""),
    ]
    # The explicit matrix, where it was measured, stands for their Transformer: first in memory, as there.
    cells.append(cell("transformer_explicit", 1024, own_s=8.0, reference_s=4.0, peak_bytes=9))
    found = agreement_table([], session(cells), False).rows
    assert [(row["models"], row["tau"]) for row in found] == [("4", "+1.00"), ("4", "+0.00")]


def test_the_published_files_have_one_figure_for_each_place() -> None:
    places = [(one.source, one.task, one.model) for one in all_published_scores()]
    assert len(places) == len({*places})
    costs = [(one.source, one.metric, one.length, one.model) for one in published_costs()]
    assert len(costs) == len({*costs})
