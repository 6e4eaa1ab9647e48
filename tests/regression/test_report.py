"""What a check says, in each of its forms."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from lra_bench.regression.check import Check, time_finding
from lra_bench.regression.evidence import Evidence
from lra_bench.regression.judgement import Finding, accepting
from lra_bench.regression.rules import Rules
from lra_bench.regression.timing import TimeVerdict
from lra_bench.report.regression import (
    MARKER,
    check_json,
    check_junit,
    check_markdown,
    findings_table,
    headline,
)

NASTY = "a|b<script>`x`\n::error::"


def check(*findings: Finding) -> Check:
    one = Evidence(revision="r", torch="2", processor="p")
    return Check(one, one, findings)


SAME = Finding("exact", "m", "t", "parameters", "same", 1000, 1000)
WORSE = Finding("exact", "m", "t", "peak bytes, step", "worse", 1 << 20, 2 << 20)
UNCLEAR = time_finding(TimeVerdict("m", "inconclusive", 1.02, 0.96, 1.08, 9, 30.2), Rules())
SLOWER = time_finding(TimeVerdict("m", "slower", 1.2, 1.1, 1.3, 6, 12.0), Rules())


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        ([SAME], "No regression (1 model, 1 metrics)."),
        ([SAME, WORSE], "1 regression (1 model, 2 metrics)."),
        ([SAME, UNCLEAR], "No regression found; 1 step times inconclusive (1 model, 2 metrics)."),
    ],
)
def test_the_headline_says_what_matters(findings: list[Finding], text: str) -> None:
    assert headline(check(*findings)) == text


def test_values_have_their_units_and_changes_their_sign() -> None:
    (row,) = findings_table([WORSE]).rows
    assert (row["before"], row["now"], row["change"]) == ("1.00 MiB", "2.00 MiB", "+100.00%")
    (row,) = findings_table([SLOWER]).rows
    assert (row["before"], row["now"], row["verdict"]) == ("1.000 x", "1.200 x", "slower")
    assert row["note"] == "1.100 to 1.300, 6 pairs in 12 s"


def test_a_slowdown_that_was_announced_is_shown_and_no_regression() -> None:
    meant = accepting(SLOWER, ["time"])
    assert not meant.is_regression
    assert findings_table([meant]).rows[0]["verdict"] == "slower, accepted"
    assert accepting(SLOWER, ["outputs"]).is_regression
    assert not accepting(UNCLEAR, ["time"]).accepted


def test_junit_has_a_case_for_each_finding() -> None:
    suite = ET.fromstring(check_junit(check(SAME, WORSE, UNCLEAR)))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["parameters", "peak bytes, step", "step time"]
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "worse: 1.00 MiB before, 2.00 MiB now. "


def test_the_comment_folds_what_did_not_change() -> None:
    text = check_markdown(check(SAME, WORSE))
    assert text.startswith(MARKER)
    loud, quiet = text.split("<details>")
    assert "peak bytes, step" in loud
    assert "parameters" in quiet
    assert "1 metrics did not change" in quiet


def test_names_from_elsewhere_stay_text() -> None:
    one = Finding("exact", NASTY, NASTY, "parameters", "worse", 1, 2, NASTY)
    text = check_markdown(check(one))
    assert "<script>" not in text.replace("\\<script>", "")
    assert not any(line.startswith("::error") for line in text.splitlines())
    row = next(line for line in text.splitlines() if "script" in line)
    assert row.replace("\\|", "").count("|") == 9  # eight cells
    ET.fromstring(check_junit(check(one)))


def test_json_says_whether_each_finding_is_a_regression() -> None:
    content = check_json(check(SAME, WORSE))
    assert [one["regression"] for one in content["findings"]] == [False, True]
    assert content["regressions"] == 1
    assert content["findings"][1]["change"] == 1.0
