"""The controls that a cell's score has to stand beside, and their scores."""

from __future__ import annotations

from lra_bench.cell import Cell, resolve_cell
from lra_bench.protocol import Protocol
from lra_bench.records import ControlLevel, RunRecord

CONTROL_SEED = 0
SHARED_WITH_CONTROLS = ("task", "data", "evaluation")
"""Changes that concern the data reach the controls too; changes of model and training do not."""


def needs_controls(cell: Cell) -> bool:
    """Whether a cell has a score that has to stand beside those of controls."""
    return "accuracy" in cell.metrics and not cell.model_entry.is_control


def control_cells(cell: Cell, protocol: Protocol) -> list[Cell]:
    """The task's controls on the same data, under the protocol's section for controls."""
    shared = {
        key: value for key, value in cell.overrides.items() if key.partition(".")[0] in SHARED_WITH_CONTROLS
    }
    return [
        resolve_cell(
            name,
            cell.task,
            protocol=protocol,
            device=cell.device,
            seed=CONTROL_SEED,
            metrics=("accuracy",),
            assignments=shared,
        )
        for name in cell.task_entry.controls
    ]


def level_of(record: RunRecord) -> ControlLevel | None:
    """A control's score as other records name it; None if it has none."""
    if record.accuracy is None:
        return None
    best = record.accuracy.best
    return ControlLevel(name=record.model.name, accuracy=best.accuracy, n=best.n, run_id=record.run_id)


def no_score(name: str, record: RunRecord | None) -> dict[str, str]:
    """The event that says why a control does not stand beside a score."""
    why = "has no record" if record is None else f"has no score: {record.reason}"
    return {"event": "warning", "message": f"The control {name} {why}"}
