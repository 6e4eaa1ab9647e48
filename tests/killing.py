"""Kills a running `lra-bench run` with SIGKILL at chosen moments and starts it again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lra_bench.records import RunRecord

CHECKPOINT = "while a checkpoint is being written"


def lasting(record: RunRecord) -> dict[str, Any]:
    """A record without what differs between two runs of one cell: times, load and process size."""
    content = record.model_dump(mode="json", by_alias=True)
    for name in ("step_time", "environment", "provenance"):
        content.pop(name)
    if content["peak_memory"]:
        content["peak_memory"].pop("process_peak_bytes")
    if content["accuracy"]:
        content["accuracy"].pop("train_s")
        content["accuracy"].pop("seconds_to_target")
        for point in content["accuracy"]["curve"]:
            point.pop("elapsed_s")
    return content


def kill_at(moment: str, command: Sequence[str], environment: Mapping[str, str], results: Path) -> bool:
    """Starts the command and kills parent and worker once `moment` shows in its messages, or, for
    `CHECKPOINT`, once the temporary file of a checkpoint exists. False if the run ended before that.
    """
    before = set(results.rglob(".checkpoint.pt.*"))
    process = subprocess.Popen(
        command, env=dict(environment), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    if moment == CHECKPOINT:
        while process.poll() is None and not set(results.rglob(".checkpoint.pt.*")) - before:
            pass
    else:
        for line in process.stderr:
            if moment in line:
                break
    reached = process.poll() is None
    for pid in (process.pid, *children_of(process.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            reached = False
    process.wait()
    process.stderr.close()
    time.sleep(0.2)
    return reached


def children_of(pid: int) -> list[int]:
    """Of all its threads."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]
