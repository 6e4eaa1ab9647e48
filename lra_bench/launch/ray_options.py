"""What Ray is asked for: the `ray:` section of a sweep's file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lra_bench.errors import UsageError
from lra_bench.protocol import explain

LOCAL = "local"


class RayOptions(BaseModel):
    """One task is one cell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str | None = None
    """Of a cluster (`auto`: one that this machine belongs to), or `local` for one of this process's own. By
    default what RAY_ADDRESS says, else `local`."""
    cpus: float = Field(default=1, gt=0)
    gpus: float | None = Field(default=None, ge=0)
    """One for cells on CUDA by default. Below 1, several cells share a device."""
    memory_gb: float | None = Field(default=None, gt=0)
    """That a node must have left for Ray to place a cell there; nothing enforces it."""
    resources: dict[str, float] = {}
    """Of the cluster's own making: the way to a kind of node. A sweep's records are of one kind of device."""

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> RayOptions:
        """Raises UsageError, with the near misses, for an unknown key or a value out of range."""
        try:
            return cls.model_validate(dict(content))
        except ValidationError as error:
            raise UsageError(f"ray: {explain(error, cls)}") from None

    @property
    def cluster(self) -> str:
        return self.address or os.environ.get("RAY_ADDRESS") or LOCAL

    def task_resources(self, *, on_cuda: bool) -> dict[str, Any]:
        """For `RemoteFunction.options`."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": int(on_cuda) if self.gpus is None else self.gpus,
            "memory": int(self.memory_gb * 2**30) if self.memory_gb else None,
            "resources": self.resources,
        }

    def places(self, node: Mapping[str, float], *, on_cuda: bool) -> int:
        """How many cells fit a node with these resources."""
        asked = self.task_resources(on_cuda=on_cuda)
        needs = {"CPU": asked["num_cpus"], "GPU": asked["num_gpus"], **self.resources}
        if asked["memory"]:
            needs["memory"] = asked["memory"]
        return min(int(node.get(name, 0) / need + 1e-6) for name, need in needs.items() if need)
