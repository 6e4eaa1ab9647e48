"""The SLURM launcher: one job of an array is one cell, through submitit.

A preempted job saves, and submitit queues it again with the same work. One that is gone without a result is
`lost`, and its cell continues elsewhere from its last checkpoint. What SLURM says of jobs is asked seldom and
for all at once; results are files.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lra_bench.errors import LraBenchError, UsageError
from lra_bench.launch import slurm_queue
from lra_bench.launch.launcher import Outcome, Work
from lra_bench.launch.remote import EXECUTE, SAVING_S, RemoteCell, device_there, last_line, payload
from lra_bench.launch.slurm_job import judge, read_result, where
from lra_bench.launch.slurm_options import SlurmOptions
from lra_bench.launch.slurm_queue import SlurmQueue
from lra_bench.launch.stop_file import stop_file
from lra_bench.measure.machine import available_cores

DEFAULT_JOBS = 256
"""In the queue at once; clusters refuse arrays that are too long (1,001 is usual)."""
SETTLE_S = 30.0
"""A result may show that long after its job has ended, on a network file system."""
SUBMIT_AGAIN_S = 60.0

logger = logging.getLogger(__name__)


@dataclass
class _Running:
    run_id: str | None
    """None for a question that is no cell."""
    job: Any
    """submitit's."""
    ended_at: float | None = None
    """When it was first seen to have ended without a result."""


class SlurmLauncher:
    """A `launcher.Launcher` that submits jobs.

    Args:
        results: the folder that all nodes see; jobs' logs go below it.
        workers: jobs in the queue or running at once. With `executor: local` so many run, by default one.
        target: see `remote.payload`.
    """

    def __init__(
        self,
        results: Path,
        options: SlurmOptions | None = None,
        workers: int | None = None,
        target: str = EXECUTE,
    ) -> None:
        self.options = options or SlurmOptions()
        on_slurm = self.options.executor == "slurm"
        self.capacity = workers or (DEFAULT_JOBS if on_slurm else 1)
        self.folder = (self.options.folder or results / ".slurm").resolve() / uuid.uuid4().hex[:12]
        self._stop_file = stop_file(results.resolve())
        self._target = target
        self._look_every_s = 2.0 if on_slurm else 0.1
        self._queue = SlurmQueue() if on_slurm else None
        self._executor = self._make_executor()
        # LocalExecutor starts whatever it is given: the queue in front of it is this one.
        self._waiting: collections.deque[Work] = collections.deque()
        self._running: list[_Running] = []
        self._ended: list[Outcome] = []
        self._all_done = True
        self._has_submitted = False
        self._submit_after = 0.0
        self._looked_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running or self._waiting:
            self.stop()
            deadline = time.monotonic() + SAVING_S
            while self._running and time.monotonic() < deadline:
                self.poll(1.0)
        if self._running:
            self._cancel()
        self._stop_file.unlink(missing_ok=True)
        if self._all_done and not self._running:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another sweep's logs are there
                self.folder.parent.rmdir()

    def submit(self, work: Sequence[Work]) -> None:
        """Takes work. What was taken between two polls becomes one array."""
        self._waiting.extend(work)

    def poll(self, timeout_s: float) -> list[Outcome]:
        """As the contract says.

        Raises:
            UsageError: SLURM refuses the very first job: its options are wrong.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._collect()
            self._submit_waiting()
            left_s = deadline - time.monotonic()
            if self._ended or left_s <= 0:
                outcomes, self._ended = self._ended, []
                return outcomes
            time.sleep(min(left_s, self._look_every_s))

    def stop(self) -> None:
        self._stop_file.parent.mkdir(parents=True, exist_ok=True)
        self._stop_file.touch()
        while self._waiting:
            self._end(Outcome(self._waiting.popleft().cell.run_id, "stopped"))
        if self._queue is not None:
            # One that starts meanwhile sees the stop file.
            slurm_queue.cancel_waiting([running.job.job_id for running in self._running])
            self._queue.ask_now()

    def device_there(self, name: str, timeout_s: float = 86400.0) -> tuple[str, str]:
        """What a node calls the device: a name and its slug; asked with a short job, which may have to wait.

        Raises:
            UsageError: a node has no such device. LraBenchError: no answer.
        """
        self._executor.update_parameters(**self.options.executor_parameters(on_cuda=name.startswith("cuda")))
        job = self._submitted(lambda: self._executor.submit(device_there, name))
        running = _Running(None, job)
        deadline = time.monotonic() + timeout_s
        while not self._has_ended(running, self._results()):
            if time.monotonic() > deadline:
                raise LraBenchError(f"No node has told its device within {timeout_s:g} s.{where(job)}")
            time.sleep(self._look_every_s)
        try:
            device, slug = job.result()
        except Exception as error:
            raise UsageError(
                f"--device {name}: a node has none, or can't start. {last_line(error)}"
            ) from None
        return device, slug

    def _make_executor(self) -> Any:
        try:
            import submitit
        except ImportError:
            raise UsageError(
                "The SLURM launcher needs submitit, which is not installed: pip install 'lra-bench[slurm]'"
            ) from None
        kind = self.options.executor
        # -P: as in `local`, the working folder must not hide the installed package.
        own: dict[str, Any] = (
            {} if kind == "debug" else {f"{kind}_python": f"{shlex.quote(sys.executable)} -P"}
        )
        if kind == "slurm":
            own["slurm_max_num_timeout"] = self.options.max_timeouts
        try:
            executor = submitit.AutoExecutor(folder=self.folder, cluster=kind, **own)
            executor.update_parameters(**self.options.executor_parameters(on_cuda=False))
        except RuntimeError as error:
            raise UsageError(
                f"No SLURM here: {error} Start the sweep on a login node, or say `executor: local` to try it."
            ) from None
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise UsageError(f"slurm: {error}") from None
        return executor

    def _submit_waiting(self) -> None:
        room = self.capacity - len(self._running)
        if not self._waiting or room <= 0 or time.monotonic() < self._submit_after:
            return
        batch = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        on_cuda = any(work.cell.device.startswith("cuda") for work in batch)
        contents = [payload(self._placed(work), self._stop_file, self._target) for work in batch]
        self._executor.update_parameters(**self.options.executor_parameters(on_cuda=on_cuda))
        try:
            jobs = self._submitted(lambda: self._executor.map_array(RemoteCell(), contents))
        except LraBenchError as error:
            if not self._has_submitted:
                raise
            logger.warning("%s Trying again in %g s.", error, SUBMIT_AGAIN_S)
            self._waiting.extendleft(reversed(batch))
            self._submit_after = time.monotonic() + SUBMIT_AGAIN_S
            return
        self._has_submitted = True
        for work, job in zip(batch, jobs, strict=True):
            self._running.append(_Running(work.cell.run_id, job))
            if self._queue is not None:
                self._queue.expect(job.job_id)

    def _submitted(self, submit: Callable[[], Any]) -> Any:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            return submit()
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            kind = LraBenchError if self._has_submitted else UsageError
            raise kind(f"SLURM does not take the job: {last_line(error)}") from error

    def _placed(self, work: Work) -> Work:
        """Its threads are what the work says, or the job's processors, or a share of this machine."""
        threads = work.threads or self.options.cpus
        if threads is None and self.options.executor == "local":
            threads = max(1, available_cores() // self.capacity)
        return replace(work, threads=threads)

    def _collect(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < self._look_every_s:
            return
        self._looked_at = now
        results = self._results()
        for running in list(self._running):
            if self._has_ended(running, results):
                self._running.remove(running)
                self._end(self._outcome(running))

    def _results(self) -> set[str]:
        """Names in the jobs' folder: one look for all jobs, a network file system asks its server for it."""
        try:
            os.chmod(self.folder, self.folder.stat().st_mode)
            return set(os.listdir(self.folder))
        except OSError:
            return set()

    def _has_ended(self, running: _Running, results: set[str]) -> bool:
        job = running.job
        if self._queue is None:
            return bool(job.done())  # `debug` runs it now
        if job.paths.result_pickle.name in results:
            return True
        if self._queue.end_state(job.job_id) is None:
            running.ended_at = None
            return False
        now = time.monotonic()
        running.ended_at = running.ended_at or now
        return now - running.ended_at > SETTLE_S or self._stop_file.exists()

    def _outcome(self, running: _Running) -> Outcome:
        run_id, job = running.run_id or "", running.job
        if self.options.executor == "debug" or job.paths.result_pickle.exists():
            return read_result(job, run_id)
        if self._stop_file.exists():
            return Outcome(run_id, "stopped")
        state = None if self._queue is None else self._queue.end_state(job.job_id)
        return judge(job, run_id, state or slurm_queue.GONE)

    def _end(self, outcome: Outcome) -> None:
        self._all_done &= outcome.state in {"done", "elsewhere", "stopped"}
        self._ended.append(outcome)

    def _cancel(self) -> None:
        if self._queue is not None:
            slurm_queue.cancel([running.job.job_id for running in self._running])
        else:
            for running in self._running:
                running.job.cancel(check=False)
