"""What SLURM's queue says of this user's jobs: one cheap question for all of them."""

from __future__ import annotations

import logging
import subprocess
import time

ASK_EVERY_S = 30.0
COMMAND_TIMEOUT_S = 60.0
_GOING_ON = {
    "PENDING",
    "RUNNING",
    "SUSPENDED",
    "STOPPED",
    "CONFIGURING",
    "COMPLETING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESIZING",
    "SIGNALING",
    "SPECIAL_EXIT",
    "STAGE_OUT",
    "REVOKED",
    "RESV_DEL_HOLD",
}
GONE = "gone"

logger = logging.getLogger(__name__)


class SlurmQueue:
    """Asks `squeue` now and then; needs no accounting database.

    A job that has ended stays in the answer for some minutes, with how it ended. One that is missing from
    two answers in a row is gone.
    """

    def __init__(self, ask_every_s: float = ASK_EVERY_S) -> None:
        self._ask_every_s = ask_every_s
        self._asked_at = float("-inf")
        self._states: dict[str, str] = {}
        self._seen: dict[str, int] = {}
        """When a job was last in an answer, by the number of that answer."""
        self._answers = 0

    def expect(self, job_id: str) -> None:
        """A job that was submitted just now."""
        self._seen[job_id] = self._answers

    def ask_now(self) -> None:
        """At the next question: something was changed."""
        self._asked_at = float("-inf")

    def end_state(self, job_id: str) -> str | None:
        """How a job has ended, in SLURM's word or as `GONE`; None while it waits, runs or can't be known."""
        self._ask()
        state = self._states.get(job_id)
        if state is not None:
            return None if state in _GOING_ON else state
        return GONE if self._answers - self._seen.get(job_id, self._answers) >= 2 else None

    def _ask(self) -> None:
        if time.monotonic() - self._asked_at < self._ask_every_s:
            return
        self._asked_at = time.monotonic()
        command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T"]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT_S
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", None) or error
            logger.warning("squeue does not answer (%s); asking again in %g s.", told, self._ask_every_s)
            return
        self._answers += 1
        self._states = {}
        for line in answer.splitlines():
            job_id, _, state = line.strip().partition("|")
            self._states[job_id] = state
            self._seen[job_id] = self._answers


def cancel_waiting(job_ids: list[str]) -> None:
    """Takes jobs that have not started out of the queue."""
    if job_ids:
        _scancel(["--state=PENDING", *job_ids])


def cancel(job_ids: list[str]) -> None:
    """Ends jobs, whatever they do."""
    if job_ids:
        _scancel(job_ids)


def _scancel(arguments: list[str]) -> None:
    try:
        subprocess.run(["scancel", *arguments], capture_output=True, check=False, timeout=COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("scancel does not answer (%s).", error)
