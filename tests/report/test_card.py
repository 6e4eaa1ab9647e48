"""Cards: what a reader of `lra-bench show NAME` gets, for every model of the catalog."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from lra_bench.registry import Entry, models
from lra_bench.report.card import card, print_card

ENTRIES = list(models)


def shown(entry: Entry) -> str:
    stream = io.StringIO()
    print_card(Console(file=stream, width=120, highlight=False), entry)
    return stream.getvalue()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_card_says_all_that_is_known(entry: Entry) -> None:
    text = " ".join(shown(entry).split())
    for known in (entry.summary, entry.formula, entry.notes, *entry.traps, *entry.deviations):
        assert " ".join(known.split()) in text
    for rung in entry.ladder:
        assert rung.label in text
    assert json.loads(json.dumps(card(entry)))["summary"] == entry.summary


def test_counted_costs_are_those_of_the_closed_form() -> None:
    """Softmax attention of width 64 at 1,024 tokens: 8 n d^2 for the projections and 4 n^2 d."""
    counted = card(models.get("transformer"))["counted"]["1,024 tokens"]
    assert 8 * 1024 * 64**2 + 4 * 1024**2 * 64 == 301_989_888
    assert counted.startswith("302 MFLOP forward, 1.00 x the Transformer's")


def test_options_and_needs() -> None:
    content = card(models.get("linformer"))
    assert content["options"]["rank"] == {"default": 256, "type": "int"}
    assert content["options"]["parameter_match"] == {"default": False, "type": "bool"}
    assert "longest length" in content["needs"]
    assert card(models.get("transformer"))["needs"] == "nothing"
    assert "one length" in card(models.get("fnet"))["needs"]


def test_published_scores_stand_with_their_source() -> None:
    text = shown(models.get("linformer"))
    assert "listops 37.45, text 58.93, retrieval 78.19, image 37.96, pathfinder 60.93" in " ".join(
        text.split()
    )
    assert "Skyformer" in text


def test_a_ladder_comes_with_its_command() -> None:
    assert "lra-bench run --ablate groupbert --task" in shown(models.get("groupbert"))
    assert "--ablate" not in shown(models.get("transformer"))


def test_somebody_elses_model_has_a_card() -> None:
    text = shown(models.get("broken:Correct"))
    assert "Explicit softmax attention over what came before" in text
    assert "FLOP forward" in text
