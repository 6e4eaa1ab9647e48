"""Ladders: from the plain Transformer to a variant, one change a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lra_bench.building import COMMON_OPTIONS
from lra_bench.cell import Cell, resolve_cell
from lra_bench.errors import UsageError
from lra_bench.registry import Rung, models


def rungs(name: str) -> tuple[Rung, ...]:
    """The ladder on a model's card.

    Raises:
        UsageError: it has none.
    """
    ladder = models.get(name).ladder
    if not ladder:
        known = ", ".join(entry.name for entry in models if entry.ladder)
        raise UsageError(f"{name} has no ladder on its card. Models that have one: {known or 'none'}.")
    return ladder


def ladder_cells(
    name: str, task: str, *, assignments: Mapping[str, Any] | None = None, **arguments: Any
) -> list[tuple[Rung, Cell]]:
    """A cell for each rung, under the same task, protocol and changes; see `cell.resolve_cell`.

    Raises:
        UsageError: no ladder, or an assignment of an option that the ladder itself sets.
    """
    shared = dict(assignments or {})
    common = {f"model.{option}" for option in COMMON_OPTIONS}
    for key in shared:
        if key.startswith("model.") and key not in common:
            raise UsageError(f"--set {key}: a ladder sets the options of its models itself.")
    cells = []
    for rung in rungs(name):
        own = {f"model.{option}": value for option, value in rung.options.items()}
        cells.append((rung, resolve_cell(rung.model, task, assignments={**shared, **own}, **arguments)))
    return cells
