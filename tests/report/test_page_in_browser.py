"""The page in a real browser: Debian's Chromium, where it is installed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import toy_cell, work
from synthetic_session import cell, session

from lra_bench.records import RunRecord
from lra_bench.report.leaderboard import leaderboard
from lra_bench.report.page.content import page_content
from lra_bench.report.page.render import Figure, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")
NASTY = "<img src=x onerror=alert(1)>"
SCORES = {"transformer": 0.8, "linformer": 0.7, "performer": 0.9, "fnet": None, NASTY: 0.6}
FAMILIES = {"transformer": "exact", "linformer": "low_rank", "performer": "kernel"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRA_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "toy-cache"))
        base = work(toy_cell(), tmp_path_factory.mktemp("results"))
    records = []
    for number, (name, accuracy) in enumerate(SCORES.items()):
        content = base.model_dump(by_alias=True)
        content["run_id"] = f"run{number}"
        content["model"] |= {"name": name, "family": FAMILIES.get(name, "layer")}
        if accuracy is None:
            content |= {"accuracy": None, "status": "oom", "reason": "too long"}
        else:
            content["accuracy"]["best"]["accuracy"] = accuracy
        records.append(RunRecord.model_validate(content))
    measured = session([cell("transformer", 64, own_s=1.0), cell("fnet", 64, own_s=0.5, reference_s=1.0)])
    shown = page_content(leaderboard(records, sessions=[measured]), records, [measured])
    return page(shown, [Figure("A figure", '<svg xmlns="http://www.w3.org/2000/svg"/>')])


@pytest.fixture(scope="module")
def path(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("page") / "index.html"
    written.write_text(text, "utf-8")
    return written


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'lra-bench[test]'")
    with api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any, path: Path) -> Iterator[Any]:
    """A tab that shows the page; nothing may have gone wrong in it by the end of the test."""
    yield from opened(chromium, path)


@pytest.fixture
def without_script(chromium: Any, path: Path) -> Iterator[Any]:
    yield from opened(chromium, path, java_script_enabled=False)


def opened(chromium: Any, path: Path, **options: Any) -> Iterator[Any]:
    context = chromium.new_context(**options)
    context.set_default_timeout(10_000)
    found = context.new_page()
    trouble: list[str] = []
    found.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: trouble.append(str(error)))
    found.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    found.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else trouble.append(f"request: {request.url}")
        ),
    )
    found.goto(path.as_uri())
    yield found
    context.close()
    assert trouble == []


def shown_models(tab: Any) -> list[str]:
    rows = tab.locator("#boards tbody tr:visible th")
    return [text.strip() for text in rows.all_inner_texts()]


def head(tab: Any, name: str) -> Any:
    return tab.locator("#boards thead").get_by_role("button", name=name, exact=True)


def test_a_column_sorts_both_ways_and_missing_scores_stay_last(tab: Any) -> None:
    by_score = head(tab, "toy:Evens")
    by_score.click()
    assert shown_models(tab) == ["performer", "transformer", "linformer", NASTY, "fnet"]
    assert by_score.locator("xpath=..").get_attribute("aria-sort") == "descending"
    by_score.click()
    assert shown_models(tab) == [NASTY, "linformer", "transformer", "performer", "fnet"]
    assert by_score.locator("xpath=..").get_attribute("aria-sort") == "ascending"


def test_filters_hide_rows_say_how_many_and_stay_in_the_address(tab: Any, path: Path) -> None:
    tab.locator("select[name=family]").select_option("kernel")
    assert shown_models(tab) == ["performer"]
    assert tab.locator("#count").inner_text() == "1 of 7 rows"
    assert "family=kernel" in tab.url
    tab.reload()
    assert shown_models(tab) == ["performer"]
    tab.get_by_role("button", name="Reset").click()
    tab.locator("#count", has_text="7 of 7 rows").wait_for()  # a form tells of its reset before it is done
    assert len(shown_models(tab)) == 5
    tab.get_by_label("Search").fill("FORMER")
    assert set(shown_models(tab)) == {"transformer", "linformer", "performer"}


def test_columns_can_be_left_out(tab: Any) -> None:
    assert head(tab, "parameters").is_visible()
    tab.get_by_text("Columns", exact=True).click()
    tab.get_by_label("parameters").uncheck()
    assert head(tab, "parameters").is_hidden()
    assert "without=parameters" in tab.url
    tab.reload()
    assert head(tab, "parameters").is_hidden()


def test_a_cell_opens_its_interval_and_leads_to_its_record(tab: Any) -> None:
    row = tab.locator("#boards tbody tr", has_text="linformer")
    row.locator("summary").first.click()
    assert "95 % interval" in row.locator(".facts").first.inner_text()
    assert "95 % interval" in row.locator("summary").first.get_attribute("title")  # on hover, too
    row.locator(".facts a").first.click()
    record = tab.locator("#run-run1")
    record.wait_for(state="visible")
    assert "lra-bench run --model linformer" in record.inner_text()
    record.get_by_role("link", name="environment").click()
    environment = tab.locator("pre[id^=environment-]").first
    environment.wait_for(state="visible")
    assert '"torch"' in environment.inner_text()


def test_everything_works_from_the_keyboard(tab: Any) -> None:
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    head(tab, "model").focus()
    tab.keyboard.press("Enter")
    assert shown_models(tab)[0] == "transformer"
    summary = tab.locator("#boards tbody tr", has_text="linformer").locator("summary").first
    summary.focus()
    tab.keyboard.press("Enter")
    assert summary.locator("xpath=..").get_attribute("open") is not None
    tab.keyboard.press("Tab")
    tab.keyboard.press("Escape")
    assert summary.locator("xpath=..").get_attribute("open") is None
    assert tab.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_markup_in_a_name_is_text(tab: Any) -> None:
    assert NASTY in shown_models(tab)
    assert tab.locator("img[src='x']").count() == 0


def test_light_and_dark(chromium: Any, path: Path, tab: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(ground)
    tab.get_by_role("button", name="Light or dark").click()
    dark = tab.evaluate(ground)
    assert brightness(light) > 200
    assert brightness(dark) < 60
    for preferred in opened(chromium, path, color_scheme="dark"):
        assert preferred.evaluate(ground) == dark


def test_it_can_be_read_without_scripts(without_script: Any) -> None:
    tab = without_script
    assert len(shown_models(tab)) == 5
    assert tab.locator("#filters").is_hidden()
    row = tab.locator("#boards tbody tr", has_text="linformer")
    row.locator("summary").first.click()
    row.locator(".facts a").first.click()
    tab.locator("#run-run1").wait_for(state="visible")


def test_it_does_not_overflow_a_narrow_screen(chromium: Any, path: Path) -> None:
    for tab in opened(chromium, path, viewport={"width": 360, "height": 740}):
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def brightness(colour: str) -> float:
    channels = [int(number) for number in re.findall(r"\d+", colour)[:3]]
    return sum(channels) / 3
