"""What one check of a subject saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["passed", "failed", "skipped", "note"]


@dataclass(frozen=True)
class Finding:
    """A verdict that a reader can act on.

    "skipped": the card claims nothing that could be checked. "note": a figure without right or wrong.
    """

    verdict: Verdict
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def passed(text: str, **figures: float) -> Finding:
    return Finding("passed", text, figures)


def failed(text: str, **figures: float) -> Finding:
    return Finding("failed", text, figures)


def skipped(text: str) -> Finding:
    return Finding("skipped", text)


def note(text: str, **figures: float) -> Finding:
    return Finding("note", text, figures)
