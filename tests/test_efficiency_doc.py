"""docs/EFFICIENCY.md follows from the measuring sessions that are kept beside it."""

import re
from pathlib import Path

from efficiency_table import TARGET, document

from lra_bench.bench.records import find_session

RESULTS = Path(__file__).parents[1] / "results"


def test_the_page_is_what_its_records_say():
    text = TARGET.read_text("utf-8")
    short, long, compiled = re.findall(r"^## Measuring session (\S+)$", text, re.MULTILINE)
    (again,) = re.findall(rf"^Session {short} and (\S+), in fresh processes", text, re.MULTILINE)
    assert text == document(*(find_session(RESULTS, name) for name in (short, again, long, compiled)))


def test_its_figures_are_there():
    figures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", TARGET.read_text("utf-8"))
    assert len(figures) == 2
    assert all((TARGET.parent / figure).is_file() for figure in figures), figures


def test_the_pages_figures_can_be_traced():
    text = TARGET.read_text("utf-8")
    for name in re.findall(r"^## Measuring session (\S+)$", text, re.MULTILINE):
        record = find_session(RESULTS, name).record
        assert record.complete
        assert record.provenance["dirty"] is False
        assert record.provenance["commit"][:8] in text
