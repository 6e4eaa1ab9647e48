"""What a check has found, for the terminal, a comment or job summary, JSON and JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lra_bench.regression.check import Check
from lra_bench.regression.judgement import Finding
from lra_bench.report.bench_text import markdown_text, plain
from lra_bench.report.numbers import change_text, metric_text
from lra_bench.report.table import Table, markdown_table

if TYPE_CHECKING:
    from rich.console import Console

MARKER = "<!-- lra-bench check -->"
"""First line of a comment, by which the next run finds it and updates it."""
QUIET = ("same",)


def headline(check: Check) -> str:
    """One sentence."""
    worse, open_ones = check.regressions, check.inconclusive
    models = len({finding.model for finding in check.findings})
    over = f"{models} model{'' if models == 1 else 's'}, {len(check.findings)} metrics"
    if worse:
        count = len(worse)
        return f"{count} regression{'' if count == 1 else 's'} ({over})."
    if check.uncompared:
        return f"{len(check.uncompared)} cells fail in both revisions and could not be compared ({over})."
    if open_ones:
        return f"No regression found; {len(open_ones)} step times inconclusive ({over})."
    return f"No regression ({over})."


def findings_table(findings: Sequence[Finding]) -> Table:
    """One line each."""
    rows = [
        {
            "model": plain(finding.model),
            "task": plain(finding.task),
            "metric": finding.metric,
            "before": _value(finding, finding.before),
            "now": _value(finding, finding.after),
            "change": change_text(finding.change),
            "verdict": verdict_of(finding),
            "note": plain(finding.note),
        }
        for finding in findings
    ]
    return Table("Findings", "", rows)


def verdict_of(finding: Finding) -> str:
    if finding.kind == "time":
        words: dict[str, str] = {"worse": "slower", "better": "faster"}
        said = words.get(finding.verdict, finding.verdict)
    else:
        said = finding.verdict
    return f"{said}, accepted" if finding.accepted else said


def print_check(out: Console, check: Check, *, everything: bool = False) -> None:
    """What changed; all of it with `everything`."""
    from rich.markup import escape

    shown = [one for one in check.findings if everything or one.verdict not in QUIET or one.kind == "time"]
    out.print(f"Baseline {escape(check.before.revision)}, now {escape(check.after.revision)}.")
    print_findings(out, shown)
    colour = "red" if check.regressions or check.uncompared else "yellow" if check.inconclusive else "green"
    out.print(f"[{colour}]{headline(check)}[/]")


def print_findings(out: Console, findings: Sequence[Finding]) -> None:
    """As a table; nothing where there are none."""
    from rich.markup import escape

    from lra_bench.report.terminal import print_rows

    if findings:
        rows = findings_table(findings).rows
        print_rows(out, [{name: escape(text) for name, text in row.items()} for row in rows])


def check_markdown(check: Check) -> str:
    """For a comment or a job summary; what did not change is folded."""
    loud = [one for one in check.findings if one.verdict not in QUIET or one.kind == "time"]
    quiet = [one for one in check.findings if one not in loud]
    sign = "❌" if check.regressions or check.uncompared else "⚠️" if check.inconclusive else "✅"
    parts = [
        MARKER,
        f"### {sign} lra-bench: {headline(check)}",
        f"Baseline `{plain(check.before.revision)}`, now `{plain(check.after.revision)}`; "
        f"torch {plain(check.after.torch)}, {plain(check.after.processor)}.",
    ]
    if loud:
        parts.append(findings_markdown(loud).rstrip())
    if quiet:
        head = f"<details><summary>{len(quiet)} metrics did not change</summary>"
        parts.append(f"{head}\n\n{findings_markdown(quiet).rstrip()}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def findings_markdown(findings: Sequence[Finding]) -> str:
    """The table alone."""
    table = findings_table(findings)
    rows = [{name: markdown_text(text) for name, text in row.items()} for row in table.rows]
    return markdown_table(table.columns, (row.values() for row in rows)) + "\n"


def finding_json(finding: Finding) -> dict[str, Any]:
    return {**vars(finding), "change": finding.change}


def check_json(check: Check) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "baseline": check.before.revision,
        "candidate": check.after.revision,
        "torch": check.after.torch,
        "processor": check.after.processor,
        "regressions": len(check.regressions),
        "inconclusive": len(check.inconclusive),
        "findings": [
            {**finding_json(finding), "regression": finding.is_regression} for finding in check.findings
        ],
    }


def check_csv(check: Check) -> str:
    """All findings, one row each."""
    import pandas as pd

    columns = [*(field.name for field in fields(Finding)), "change", "regression"]
    frame = pd.DataFrame(check_json(check)["findings"], columns=columns)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def check_junit(check: Check) -> str:
    """A test case for each finding: a regression is a failure, what was not compared is skipped."""
    failures = sum(1 for one in check.findings if one.is_regression)
    skipped = [one for one in check.findings if one.verdict in ("inconclusive", "not compared")]
    suite = ET.Element(
        "testsuite",
        name="lra-bench check",
        tests=str(len(check.findings)),
        failures=str(failures),
        skipped=str(len(skipped)),
        errors="0",
    )
    for finding in check.findings:
        case = ET.SubElement(
            suite, "testcase", classname=plain(f"{finding.model}.{finding.task}"), name=plain(finding.metric)
        )
        before, now = _value(finding, finding.before), _value(finding, finding.after)
        text = plain(f"{verdict_of(finding)}: {before} before, {now} now. {finding.note}")
        if finding.is_regression:
            ET.SubElement(case, "failure", message=text)
        elif finding in skipped:
            ET.SubElement(case, "skipped", message=text)
        else:
            ET.SubElement(case, "system-out").text = text
    ET.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _value(finding: Finding, value: float | str | None) -> str:
    return metric_text(finding.metric, value)
