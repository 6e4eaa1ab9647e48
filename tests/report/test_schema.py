"""docs/RECORDS.md is what the classes say, and leaves nothing out."""

from pathlib import Path

from lra_bench.bench.records import BenchRecord, SessionRecord
from lra_bench.records import Accuracy, RunRecord, StepTimePart
from lra_bench.report.schema import field_docstrings, schema_markdown

PAGE = Path(__file__).parents[2] / "docs" / "RECORDS.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == schema_markdown(), "python -m lra_bench.report.schema > docs/RECORDS.md"


def test_every_field_of_every_kind_stands_on_it():
    text = schema_markdown()
    for kind in (RunRecord, SessionRecord, BenchRecord, Accuracy, StepTimePart):
        for name, field in kind.model_fields.items():
            assert f"| `{field.alias or name}` |" in text, (kind, name)


def test_descriptions_are_those_below_the_fields():
    assert field_docstrings(Accuracy)["best"].startswith("On the test set")
    text = schema_markdown()
    assert "| `mad_s` | number | Median absolute deviation from the median, unscaled. |" in text
    assert "| `padded` | true or false | False: every token is real and no mask is given." in text
