"""What became of one of submitit's jobs: its result, or else what SLURM and the job's log say."""

from __future__ import annotations

from typing import Any

from lra_bench.launch.launcher import Outcome
from lra_bench.launch.remote import has_started, last_line

LOG_LINES = 15


def read_result(job: Any, run_id: str) -> Outcome:
    """The outcome that a job has sent home."""
    try:
        outcome = Outcome(**job.result())
    except Exception as error:  # submitit's own, with the trace of whatever the job raised
        return Outcome(run_id, "failed", f"The job failed: {last_line(error)}{where(job)}")
    if outcome.state in {"failed", "lost"}:
        return Outcome(run_id, outcome.state, f"{outcome.message}{where(job)}")
    return outcome


def judge(job: Any, run_id: str, state: str) -> Outcome:
    """Of a job that has ended as `state` says and left no result."""
    log = (job.stderr() or "").strip()
    if state == "OUT_OF_MEMORY":
        return Outcome(run_id, "failed", f"SLURM ended the job for its memory: raise memory_gb.{where(job)}")
    if state == "CANCELLED":
        message = f"Somebody cancelled the job; the same sweep continues its cell.{where(job)}"
        return Outcome(run_id, "failed", message)
    if state == "FAILED" and not has_started(log, run_id):
        tail = "\n  ".join(log.splitlines()[-LOG_LINES:])
        return Outcome(run_id, "failed", f"The job failed before its cell began.{where(job)}\n  {tail}")
    return Outcome(run_id, "lost", f"The job has left no result ({state}).{where(job)}")


def where(job: Any) -> str:
    """For the end of a message."""
    return f" Logs: {job.paths.stderr.parent} (job {job.job_id})."
