"""The page: everything escaped, every score leads to its record, the same bytes, small and fast."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from altered import altered
from synthetic_session import cell, session

from lra_bench.records import RunRecord
from lra_bench.report.artefacts import artefacts, out_of_date, relative_files
from lra_bench.report.leaderboard import leaderboard
from lra_bench.report.page.content import page_content
from lra_bench.report.page.render import Figure, page

NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text of a few."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(records: list[RunRecord], sessions: Any = (), figures: Any = ()) -> str:
    return page(page_content(leaderboard(records, sessions=sessions), records, sessions), figures)


def test_markup_in_a_record_is_text_everywhere(base: RunRecord) -> None:
    nasty = altered(
        base,
        "1",
        model__name=NASTY,
        model__family=NASTY,
        task__name=NASTY,
        task__dataset=NASTY,
        protocol__name=f"`{NASTY}`",
        device=NASTY,
        status="error",
        reason=NASTY,
        environment={"os": NASTY, NASTY: NASTY},
        provenance={"commit": NASTY},
    )
    found = Elements(page_of([nasty, altered(base, "2")]))
    assert len(found.all("script")) == 1  # the page's own
    assert all("data:" in image["src"] for image in found.all("img"))
    assert not any(name.startswith("on") for _, attributes in found.found for name in attributes)
    shown = "".join(found.text["summary"])
    assert NASTY in shown


def test_a_link_of_a_paper_can_only_be_https(base: RunRecord) -> None:
    found = Elements(page_of([altered(base, "1", model__name="linformer")]))
    links = [attributes["href"] for attributes in found.all("a")]
    assert any(link.startswith("https://arxiv.org") for link in links)
    assert all(link.startswith(("#", "https://")) for link in links)


def test_nothing_is_fetched(base: RunRecord) -> None:
    text = page_of([altered(base, "1")], [whole_session()], [Figure("A figure", "<svg/>")])
    found = Elements(text)
    assert not found.all("iframe")
    assert [link["href"] for link in found.all("link")] == ["data:,"]
    assert all(image["src"].startswith("data:image/svg+xml,") for image in found.all("img"))
    assert all(image["alt"] for image in found.all("img"))
    assert not re.search(r"(?:@import|url\()", text)
    policy = next(meta["content"] for meta in found.all("meta") if "content" in meta and "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_every_reference_within_the_page_leads_somewhere(base: RunRecord) -> None:
    records = [altered(base, str(seed), seed=seed, model__name="linformer") for seed in range(3)]
    found = Elements(page_of(records, [whole_session()]))
    ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in found.all("a") if link["href"].startswith("#")}
    assert targets <= set(ids)
    assert {"run-0", "run-1", "run-2", "model-linformer"} <= targets


def test_scores_with_interval_and_verdict_are_readable_without_a_script(base: RunRecord) -> None:
    record = altered(base, "1", verdict={"label": "chance", "text": "as chance", "controls": []})
    found = Elements(page_of([record]))
    facts = " ".join(found.text["p"])
    assert "95 % interval" in facts
    assert "not distinguishable from chance" in facts
    assert f"lra-bench run --model {record.model.name}" in " ".join(found.text["code"])


def test_a_session_has_its_own_table(base: RunRecord) -> None:
    found = Elements(page_of([altered(base, "1")], [whole_session()]))
    cells = "".join(found.text["td"])
    assert "0.50" in cells
    assert any("Speed and memory of one" in text for text in found.text["h3"])


def test_the_same_records_give_the_same_bytes_and_a_changed_one_others(base: RunRecord) -> None:
    records = [altered(base, str(seed), seed=seed) for seed in range(3)]
    assert page_of(records) == page_of(records[::-1])
    other = altered(records[2], "2", accuracy__best__accuracy=0.123)
    assert page_of([*records[:2], other]) != page_of(records)


def test_an_edited_number_is_found_and_another_drawing_is_not(base: RunRecord, tmp_path: Any) -> None:
    records = [altered(base, "1")]
    written = artefacts(leaderboard(records), [], records)
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    assert out_of_date(tmp_path, written) == []
    text = written["index.html"]
    assert "data:image/svg+xml," in text
    (tmp_path / "index.html").write_text(text.replace("svg+xml,", "svg+xml,AAAA"), "utf-8")
    assert out_of_date(tmp_path, written) == []  # figures follow the library that draws them
    (tmp_path / "index.html").write_text(text.replace("n=1", "n=2").replace("1 seed", "2 seeds"), "utf-8")
    assert out_of_date(tmp_path, written) == ["index.html"]


def test_records_elsewhere_have_no_path_on_the_page(tmp_path: Any) -> None:
    home = tmp_path / "results"
    paths = {"a": home / "runs" / "x y.json", "b": tmp_path / "elsewhere" / "b.json"}
    assert relative_files(paths, home) == {"a": "runs/x%20y.json"}


@pytest.mark.slow
def test_a_thousand_records_are_a_small_page(base: RunRecord) -> None:
    records = [
        altered(
            base,
            f"{number:016x}",
            seed=number % 5,
            model__name=f"model{number // 25}",
            task__name=f"task{number // 5 % 5}",
        )
        for number in range(1000)
    ]
    start = time.perf_counter()
    text = page_of(records)
    assert len(text) < 2_000_000
    assert time.perf_counter() - start < 60  # the figure itself is in docs/; this only catches a runaway


def whole_session() -> Any:
    return session(
        [
            cell("transformer", 64, own_s=1.0),
            cell("linformer", 64, own_s=0.5, reference_s=1.0),
            cell("transformer_explicit", 64, own_s=2.0, reference_s=1.0),
        ]
    )
