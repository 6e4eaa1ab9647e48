"""The Ray launcher: one task in a fresh process is one cell.

Ray queues, places and starts; whether a cell is run again is the sweep's to say. A task that waits for
resources has claimed nothing. A worker or node that is gone is `lost`, and its cell continues elsewhere. A
cell that runs out of memory beside others is placed again on a node of its own, so that what it ends as does
not depend on its neighbours.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lra_bench.errors import LraBenchError, UsageError
from lra_bench.launch.launcher import Outcome, Work
from lra_bench.launch.ray_options import LOCAL, RayOptions
from lra_bench.launch.remote import EXECUTE, SAVING_S, device_there, last_line, payload, run_there
from lra_bench.launch.stop_file import stop_file
from lra_bench.measure.machine import available_cores

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster of our own: outcomes are all that travels."""
LOOK_AT_CLUSTER_EVERY_S = 15.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray kills workers when memory runs low, and the cell that is killed need not be the one that took it.
    # The cells' own processes have limits.
    "RAY_memory_monitor_refresh_ms": "0",
    # Workers have a low priority by default, and what a cell takes would depend on what else goes on.
    "RAY_worker_niceness": "0",
}


class RayLauncher:
    """A `launcher.Launcher` that submits tasks.

    Args:
        results: the folder that all nodes see.
        workers: tasks at once at most; what the cluster has room for by default. It is also how many cells
            a `local` cluster is made for.
        on_cuda: whether the cells need a GPU; for the number that the cluster has room for.
        target: see `remote.payload`.
    """

    def __init__(
        self,
        results: Path,
        options: RayOptions | None = None,
        workers: int | None = None,
        *,
        on_cuda: bool = False,
        target: str = EXECUTE,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError(
                "The Ray launcher needs Ray, which is not installed: pip install 'lra-bench[ray]'"
            ) from None
        self.options = options or RayOptions()
        self.capacity = workers or 0
        self._ray = ray
        self._workers = workers
        self._on_cuda = on_cuda
        self._target = target
        self._results = results.resolve()
        self._stop_file = stop_file(self._results)
        self._is_ours = False
        self._run_ids: dict[Any, str] = {}
        self._works: dict[str, Work] = {}
        self._node: dict[str, float] = {}
        """What the largest node has."""
        self._looked_at = 0.0

    def __enter__(self) -> Self:
        self._connect()
        try:
            self._look_at_cluster()
        except BaseException:
            self._disconnect()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._run_ids:
                self.stop()
                deadline = time.monotonic() + SAVING_S
                while self._run_ids and time.monotonic() < deadline:
                    self.poll(1.0)
        finally:
            self._disconnect()
            self._stop_file.unlink(missing_ok=True)

    def submit(self, work: Sequence[Work]) -> None:
        for one in work:
            placed = replace(one, threads=one.threads or max(1, int(self.options.cpus)))
            self._works[one.cell.run_id] = placed
            self._start(placed, alone=self.capacity == 1)

    def poll(self, timeout_s: float) -> list[Outcome]:
        self._look_at_cluster()
        if not self._run_ids:
            time.sleep(timeout_s)
            return []
        tasks = list(self._run_ids)
        self._ray.wait(tasks, num_returns=1, timeout=timeout_s)
        ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        outcomes = []
        for task in ready:
            outcome = self._outcome(task, self._run_ids.pop(task))
            work = self._works.pop(outcome.run_id)
            if outcome.state == "crowded" and not self._stop_file.exists():
                self._works[outcome.run_id] = work
                self._start(work, alone=True)
            else:
                outcomes.append(outcome)
        return outcomes

    def stop(self) -> None:
        self._stop_file.touch()
        for task in self._run_ids:
            # One that waits is taken back. One that runs takes it for a Ctrl-C: it saves and ends.
            self._ray.cancel(task)

    def device_there(self, name: str, timeout_s: float = 3600.0) -> tuple[str, str]:
        """What a node calls the device: a name and its slug; asked with a task.

        Raises:
            UsageError: a node has no such device. LraBenchError: no answer.
        """
        resources = self.options.task_resources(on_cuda=self._on_cuda)
        task = self._ray.remote(max_calls=1)(device_there).options(**resources).remote(name)
        try:
            device, slug = self._ray.get(task, timeout=timeout_s)
        except self._ray.exceptions.GetTimeoutError:
            raise LraBenchError(f"No node has told its device within {timeout_s:g} s.") from None
        except self._ray.exceptions.RayTaskError as error:
            raise UsageError(f"--device {name}: {last_line(error)}") from None
        return device, slug

    def _start(self, work: Work, *, alone: bool) -> None:
        resources = self.options.task_resources(on_cuda=work.cell.device.startswith("cuda"))
        if alone and self.capacity > 1:
            resources["num_cpus"] = self._node.get("CPU", resources["num_cpus"])
            resources["num_gpus"] = math.ceil(resources["num_gpus"])
        # max_calls: a process per cell. max_retries: a cell that was lost is the sweep's to submit again.
        remote = self._ray.remote(max_calls=1, max_retries=0, **resources)(run_there)
        content = payload(work, self._stop_file, self._target, alone=alone)
        task = remote.options(name=f"lra-bench {work.cell.run_id}").remote(content)
        self._run_ids[task] = work.cell.run_id

    def _connect(self) -> None:
        if self._ray.is_initialized():
            return
        quiet: dict[str, Any] = {
            "logging_level": logging.ERROR,
            "log_to_driver": False,
            "include_dashboard": False,
        }
        if self.options.cluster == LOCAL:
            for name, value in _QUIET.items():
                os.environ.setdefault(name, value)
            places = self._workers or max(1, int(available_cores() // self.options.cpus))
            quiet["num_cpus"] = max(1, round(places * self.options.cpus))
            quiet["object_store_memory"] = OBJECT_STORE_BYTES
            quiet["resources"] = {name: need * places for name, need in self.options.resources.items()}
        self._results.mkdir(parents=True, exist_ok=True)
        try:
            # Workers search the folder in which Ray was started: a checkout of this project there would
            # hide the installed package.
            with _handlers_kept(), contextlib.chdir(self._results):
                self._ray.init(address=self.options.cluster, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"Ray at {self.options.cluster!r} can't be used: {last_line(error)}") from None
        self._is_ours = True

    def _disconnect(self) -> None:
        if self._is_ours:
            with _handlers_kept():
                self._ray.shutdown()

    def _look_at_cluster(self) -> None:
        """Clusters grow and shrink."""
        if self._looked_at and time.monotonic() - self._looked_at < LOOK_AT_CLUSTER_EVERY_S:
            return
        self._looked_at = time.monotonic()
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._node = max(nodes, key=lambda node: node.get("CPU", 0), default={})
        places = sum(self.options.places(node, on_cuda=self._on_cuda) for node in nodes)
        if not self.capacity and not places:
            asked = self.options.task_resources(on_cuda=self._on_cuda)
            raise UsageError(
                f"No node of the Ray cluster has what a cell is to get: {asked}. Ask for less, or say how "
                "many --workers a cluster that grows will have."
            )
        # With a number of workers, tasks that wait make a cluster grow that can.
        self.capacity = self._workers or max(1, places)

    def _outcome(self, task: Any, run_id: str) -> Outcome:
        errors = self._ray.exceptions
        try:
            return Outcome(**self._ray.get(task))
        except errors.TaskCancelledError:
            return Outcome(run_id, "stopped")
        except (errors.RayTaskError, errors.RuntimeEnvSetupError, errors.TaskUnschedulableError) as error:
            return Outcome(run_id, "failed", f"The task failed: {last_line(error)}")
        except errors.OutOfMemoryError:
            return Outcome(
                run_id,
                "lost",
                "Ray ended the worker because its node was short of memory: set memory_gb, or start the "
                "cluster with RAY_memory_monitor_refresh_ms=0.",
            )
        except errors.RayError as error:
            return Outcome(run_id, "lost", f"Its worker is gone: {type(error).__name__}.")


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray installs a handler of SIGTERM that ends the process at once; ours saves first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
