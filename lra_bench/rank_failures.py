"""Which of a cell's processes failed first, and why.

When one fails, the others do too: they lose it in the midst of an exchange. So each leaves a note, and the
record tells what the earliest says.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

from lra_bench.files import write_atomically
from lra_bench.records import Status

LATE_NOTE_S = 1.0
"""How long the first process waits for the note of one that failed before it."""


def note_failure(folder: Path, rank: int, status: Status, reason: str) -> None:
    """Leaves a note in the folder of a run in progress."""
    if folder.exists():  # else the run has its record already
        note = {"at": time.time(), "status": status, "reason": f"in process {rank}: {reason}"}
        write_atomically(folder / f"failed-{rank}.json", json.dumps(note))


def cause_of_failure(folder: Path, status: Status, reason: str) -> tuple[Status, str]:
    """Status and reason of the earliest failure, where the first process has failed just now."""
    failed_at = time.time()
    while time.time() < failed_at + LATE_NOTE_S:
        if earlier := [note for note in notes(folder) if note["at"] < failed_at]:
            first = min(earlier, key=lambda note: float(note["at"]))
            return cast(Status, first["status"]), str(first["reason"])
        time.sleep(LATE_NOTE_S / 20)
    return status, reason


def notes(folder: Path) -> list[dict[str, Any]]:
    """Those in the folder."""
    return [json.loads(path.read_text("utf-8")) for path in folder.glob("failed-*.json")]


def forget_failures(folder: Path) -> None:
    """Before a run starts: what an earlier one left."""
    for path in folder.glob("failed-*.json"):
        path.unlink(missing_ok=True)
