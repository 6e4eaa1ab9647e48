"""Where a cell stands, told from the results folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lra_bench.cell import Cell
from lra_bench.errors import DataError, StorageError
from lra_bench.files import unwritable
from lra_bench.record_store import read_record
from lra_bench.records import RunRecord

Kind = Literal["finished", "error", "damaged", "missing"]


@dataclass(frozen=True)
class Standing:
    """What there is of a cell."""

    kind: Kind
    """`finished`: a valid record, however the cell ended. `error`: a record of a fault in the code, which may
    have been mended. `damaged`: a file that is no record of this cell."""
    record: RunRecord | None = None
    reason: str = ""
    """What is damaged."""


def standing(cell: Cell, results: Path) -> Standing:
    """Reads a cell's record.

    Raises:
        StorageError: there is one, but the system won't let it be read now.
    """
    path = cell.record_path(results)
    if not path.exists():
        return Standing("missing")
    try:
        record = read_record(path)
    except DataError as error:
        if not path.exists():
            return Standing("missing")  # moved away meanwhile
        if isinstance(error.__context__, OSError):
            raise StorageError(str(error)) from error
        return Standing("damaged", reason=str(error))
    if record.run_id != cell.run_id:
        return Standing("damaged", reason=f"{path}: is the record of {record.run_id}.")
    return Standing("error" if record.status == "error" else "finished", record)


def set_aside(cell: Cell, results: Path) -> Path:
    """Moves a damaged record to a name that nothing reads, and returns that; the claim must be held.

    Raises:
        StorageError: the folder can't be written.
    """
    path = cell.record_path(results)
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise unwritable(aside, error) from error
    return aside
