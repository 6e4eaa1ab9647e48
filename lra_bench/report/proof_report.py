"""What `lra-bench validate` prints: one line a check, and what the whole amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from lra_bench.validation.checks import Outcome
    from lra_bench.validation.subject import Subject

MARKS = {
    "passed": "[green]passed[/] ",
    "failed": "[red]FAILED[/] ",
    "skipped": "[dim]skipped[/]",
    "note": "[cyan]note[/]   ",
}


def print_subject(out: Console, subject: Subject) -> None:
    """What is proved, and at which sizes."""
    sizes = subject.sizes
    options = "".join(f", {name}={value}" for name, value in subject.options.items())
    out.print(
        f"\n[bold]{escape(subject.entry.name)}[/]{escape(options)}, width {sizes.dim}, "
        f"{sizes.num_heads} heads of {sizes.head_dim}, up to {sizes.max_length} tokens",
        soft_wrap=True,
    )


def print_outcome(out: Console, outcome: Outcome) -> None:
    """One line."""
    text = escape(outcome.finding.text)
    out.print(f"  {MARKS[outcome.finding.verdict]}  {outcome.check:14}  {text}", soft_wrap=True)


def print_verdict(out: Console, subject: Subject, outcomes: Sequence[Outcome]) -> int:
    """The last line of a proof; returns how many checks failed."""
    failures = [one.check for one in outcomes if one.finding.verdict == "failed"]
    passed = sum(one.finding.verdict == "passed" for one in outcomes)
    seconds = sum(one.seconds for one in outcomes)
    name = escape(subject.entry.name)
    if failures:
        out.print(
            f"[red]{name}: {len(failures)} of {len(failures) + passed} checks failed[/] "
            f"({escape(', '.join(failures))}), {seconds:.1f} s"
        )
    else:
        out.print(f"[green]{name}: all {passed} checks passed[/], {seconds:.1f} s")
        out.print(
            "[dim]They show that it behaves and costs what it says, not that it computes the right formula: "
            "for that, compare it with a reference of your own.[/]",
            soft_wrap=True,
        )
    return len(failures)
