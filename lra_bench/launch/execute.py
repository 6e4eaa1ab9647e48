"""Runs one piece of work to its outcome: what every launcher calls, wherever it runs.

It takes the cell's claim, looks again whether somebody has finished the cell, reads the controls' scores
and runs the cell in a child process, renewing the claim meanwhile. Nothing that can happen to a cell is
raised; a disk that is full is waited for.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from lra_bench.cell import Cell
from lra_bench.errors import CrowdedError, LraBenchError, StorageError
from lra_bench.job import Job
from lra_bench.launch.claims import Claim, claim_path, remove_leftovers
from lra_bench.launch.controls import level_of, no_score
from lra_bench.launch.launcher import Outcome, State, Work
from lra_bench.launch.local import Event, InterruptedRunError, WorkerDiedError, run_job
from lra_bench.launch.standing import Standing, set_aside, standing

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
"""Between two tries to write; each wait is twice the one before."""

logger = logging.getLogger(__name__)


def execute(
    work: Work,
    stop: threading.Event | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    *,
    alone: bool = True,
) -> Outcome:
    """Runs a cell, unless it is finished or somebody else works on it.

    Args:
        stop: set it from another thread to save and end. In a main thread SIGINT and SIGTERM do the same.
        on_event: gets the events of the worker, and of kind `warning`, `damaged` and `storage` our own.
        alone: whether the cell has the memory for itself. Beside others, out of memory is no result.
    """
    stop = stop or threading.Event()
    wait_s = FIRST_WAIT_S
    while not stop.is_set():
        try:
            return _attempt(work, stop, on_event, alone)
        except StorageError as error:
            on_event({"event": "storage", "message": str(error), "wait_s": wait_s})
            stop.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        except Exception as error:
            logger.exception("Running %s failed", work.cell.run_id)
            return _outcome(work, "failed", f"{type(error).__name__}: {error}")
    return _outcome(work, "stopped")


def _attempt(work: Work, stop: threading.Event, on_event: Callable[[Event], None], alone: bool) -> Outcome:
    cell, results = work.cell, work.results
    if is_settled(standing(cell, results), work.retry):
        return _outcome(work, "done")
    claim = Claim.take(cell.record_path(results), work.lease_s)
    if claim is None:
        return _outcome(work, "elsewhere")
    with claim:
        remove_leftovers(cell.record_path(results))
        found = standing(cell, results)  # again: it may have been finished while we took the claim
        if is_settled(found, work.retry):
            return _outcome(work, "done")
        if found.kind == "damaged":
            aside = set_aside(cell, results)
            on_event({"event": "damaged", "message": f"{found.reason} Moved to {aside.name}."})
        on_event({"event": "cell", "cell": cell, "finished": False})
        return _run(work, claim, stop, on_event, alone)


def _run(
    work: Work, claim: Claim, stop: threading.Event, on_event: Callable[[Event], None], alone: bool
) -> Outcome:
    scores = []
    for control in work.controls:
        record = standing(control, work.results).record
        score = None if record is None else level_of(record)
        if score is None:
            on_event(no_score(control.model, record))
        else:
            scores.append(score)
    job = Job(
        work.cell,
        work.results,
        tuple(scores),
        work.command,
        memory_limit_bytes=work.memory_limit_bytes,
        alone=alone,
        threads=work.threads,
    )
    try:
        run_job(
            job,
            on_event,
            should_stop=lambda: stop.is_set() or claim.lost.is_set(),
            time_limit_s=work.time_limit_s,
        )
    except InterruptedRunError:
        return _outcome(work, "elsewhere" if claim.lost.is_set() and not stop.is_set() else "stopped")
    except WorkerDiedError as error:
        return _outcome(work, "lost", str(error))
    except CrowdedError as error:
        return _outcome(work, "crowded", str(error))
    except StorageError:
        raise
    except LraBenchError as error:
        return _outcome(work, "failed", str(error))
    return _outcome(work, "done")


def clear_up(cell: Cell, results: Path) -> None:
    """Removes what is left of a finished cell whose runner died before it could: a claim, a checkpoint.

    Raises:
        StorageError: the folder can't be written.
    """
    record, partial = cell.record_path(results), cell.partial_folder(results)
    if not (claim_path(record).exists() or partial.exists()):
        return
    claim = Claim.take(record)
    if claim is not None:  # else its runner lives, and clears up itself
        shutil.rmtree(partial, ignore_errors=True)
        remove_leftovers(record)
        claim.release()


def is_settled(found: Standing, retry: bool) -> bool:
    """Whether there is nothing to run: a record, which may say `error` unless those are tried again."""
    return found.kind == "finished" or (found.kind == "error" and not retry)


def _outcome(work: Work, state: State, message: str = "") -> Outcome:
    return Outcome(work.cell.run_id, state, message)
