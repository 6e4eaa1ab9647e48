"""What a SLURM job is asked for: the `slurm:` section of a sweep's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lra_bench.errors import UsageError
from lra_bench.protocol import explain


class SlurmOptions(BaseModel):
    """One job is one cell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Literal["slurm", "local", "debug"] = "slurm"
    """`local` runs jobs as processes of this machine and `debug` in this process: for trying."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    """Kind of node. A sweep's records are of one kind of device."""
    time_min: int = Field(default=240, gt=0)
    """Of a job, in minutes; a cell that needs longer saves and continues in another."""
    gpus: int | None = Field(default=None, ge=0)
    """One for cells on CUDA by default."""
    cpus: int | None = Field(default=None, gt=0)
    memory_gb: float | None = Field(default=None, gt=0)
    array_parallelism: int | None = Field(default=None, gt=0)
    """How many of one array run at once; as many as SLURM lets by default."""
    setup: list[str] = []
    """Shell lines before Python: modules, variables."""
    additional: dict[str, Any] = {}
    """Any other option of sbatch."""
    max_timeouts: int = Field(default=10, ge=0)
    """How often one cell may run out of `time_min` and be queued again."""
    signal_delay_s: int = Field(default=90, gt=0)
    """How long before the end of its time a job is told to save."""
    folder: Path | None = None
    """Of logs, on a file system that all nodes see; `.slurm` in the results folder by default."""

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> SlurmOptions:
        """Raises UsageError, with the near misses, for an unknown key or a value out of range."""
        try:
            return cls.model_validate(dict(content))
        except ValidationError as error:
            raise UsageError(f"slurm: {explain(error, cls)}") from None

    def executor_parameters(self, *, on_cuda: bool) -> dict[str, Any]:
        """For submitit's `AutoExecutor.update_parameters`; None is left out there."""
        gpus = int(on_cuda) if self.gpus is None else self.gpus
        shared: dict[str, Any] = {
            "name": "lra-bench",
            "timeout_min": self.time_min,
            "nodes": 1,
            "tasks_per_node": 1,
            "gpus_per_node": gpus or None,
            "cpus_per_task": self.cpus,
            "mem_gb": self.memory_gb,
        }
        if self.executor == "local":
            return {**shared, "local_setup": self.setup or None}
        own = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "array_parallelism": self.array_parallelism,
            "setup": self.setup or None,
            "signal_delay_s": self.signal_delay_s,
            "additional_parameters": self.additional or None,
        }
        return {**shared, **{f"slurm_{name}": value for name, value in own.items()}}
