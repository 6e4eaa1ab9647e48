"""A planted fault: what is wrong, and the options under which it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """`MUTANTS` in tests/mutants/<entry>.py is a list of these."""

    fault: type[Any]
    """Comes before the shipped class in the order of resolution, so that its super() is the shipped one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    lengths: tuple[int, ...] = (33, 20, 3, 1)
    """Of the padded batch. A full batch of the first length is compared too; either may show the fault."""
