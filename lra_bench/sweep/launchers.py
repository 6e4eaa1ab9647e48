"""The launcher that a plan names; those for clusters are imported only then."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from lra_bench.errors import UsageError
from lra_bench.launch.launcher import Launcher
from lra_bench.launch.local import Event
from lra_bench.launch.pool import LocalPool
from lra_bench.sweep.plan import SweepPlan


def make_launcher(plan: SweepPlan, on_event: Callable[[str, Event], None] = lambda *_: None) -> Launcher:
    """A launcher, to be used as a context.

    on_event: gets the run id and the event of what runs on this machine; others have logs of their own.

    Raises:
        UsageError: its package is not installed, or it has no such option.
    """
    if plan.launcher == "local":
        return LocalPool(plan.workers or 1, on_event)
    launcher: Launcher
    if plan.launcher == "slurm":
        kind, options = _loaded("slurm", "SlurmLauncher"), _loaded("slurm_options", "SlurmOptions")
        launcher = kind(plan.results, options.parse(plan.slurm), plan.workers)
    else:
        kind, options = _loaded("ray", "RayLauncher"), _loaded("ray_options", "RayOptions")
        on_cuda = plan.device.startswith("cuda")
        launcher = kind(plan.results, options.parse(plan.ray), plan.workers, on_cuda=on_cuda)
    return launcher


def device_there(plan: SweepPlan, launcher: Launcher) -> tuple[str, str] | None:
    """The device that cells will have and its slug, from a launcher whose cells run on other machines.

    Raises:
        UsageError: there is no such device there.
    """
    ask = getattr(launcher, "device_there", None)
    return None if ask is None else ask(plan.device)


def _loaded(module: str, name: str) -> Any:
    extra = module.partition("_")[0]
    try:
        return getattr(importlib.import_module(f"lra_bench.launch.{module}"), name)
    except ImportError as error:
        raise UsageError(
            f"--launcher {extra} needs the extra {extra!r}: pip install 'lra-bench[{extra}]' ({error})"
        ) from None
