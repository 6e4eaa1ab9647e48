"""What a sweep is asked to do: models x options x tasks x seeds, from the command line or a YAML file.

Both say the same in the same words. Where a file is given as well, the command line wins, key by key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from lra_bench.cell import METRICS, Metric, Precision, check_key
from lra_bench.errors import UsageError
from lra_bench.protocol import Section, explain

Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
LauncherName = Literal["local", "slurm", "ray"]


def _split(value: Any) -> Any:
    """'a, b' -> ['a', 'b']; a list stays one."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class SweepPlan(Section):
    """A sweep as it is written down. `sweep.cells` makes cells of it."""

    models: Names = ()
    """Names, globs (which leave controls out) or package.module:Class."""
    ablate: Names = ()
    """Models whose ladders are run, every step a model."""
    tasks: Names
    seeds: tuple[int, ...] = (0,)
    """3 stands for 0, 1 and 2."""
    protocol: str = "quick"
    settings: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Dotted keys as for `--set`. A list is an axis; a value that is itself a list stands in one."""
    metrics: Annotated[tuple[Metric, ...], BeforeValidator(_split)] = METRICS
    device: str = "auto"
    precision: Precision = "fp32"
    compiled: bool = False
    tune: Annotated[int, Field(ge=0)] = 0
    """Trials of learning rate and weight decay for each model, options and task."""
    results: Path = Path("results")
    data_dir: Path | None = None
    launcher: LauncherName = "local"
    slurm: dict[str, Any] = Field(default_factory=dict)
    """What the SLURM launcher is told, in its own terms."""
    ray: dict[str, Any] = Field(default_factory=dict)
    """What the Ray launcher is told, in its own terms."""
    workers: AtLeastOne | None = None
    """Cells at a time: one here, and as many as a cluster takes."""
    threads: AtLeastOne | None = None
    """Of each cell; by default the cores divided by the workers."""
    shard: tuple[int, int] | None = None
    """(2, 4), or `2/4`: the second of four parts, which together are the whole."""
    retry: Literal["failed"] | None = None
    """`failed`: cells that ended as `error` are run again."""
    max_failures: AtLeastOne | None = None
    """Stop after so many cells failed with an error; oom, timeout and divergence are results."""
    time_limit_s: Positive | None = None
    """Wall seconds of one cell."""
    memory_limit_gib: Positive | None = None
    """Of one cell."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_seeds(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if value < 1:
            raise ValueError("expected how many, at least 1, or a list of seeds")
        return tuple(range(value))

    @field_validator("settings", mode="before")
    @classmethod
    def _axes(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key in value:
            check_key(str(key))
        return {key: tuple(one) if isinstance(one, list | tuple) else (one,) for key, one in value.items()}

    @field_validator("settings")
    @classmethod
    def _no_empty_axis(cls, value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in value.items():
            if not values:
                raise ValueError(f"{key} has no value")
        return value

    @field_validator("shard", mode="before")
    @classmethod
    def _read_shard(cls, value: Any) -> Any:
        if isinstance(value, str):
            found = re.fullmatch(r"(\d+)/(\d+)", value.strip())
            if found is None:
                raise ValueError("expected i/n, for example 1/4")
            return int(found[1]), int(found[2])
        return value

    @model_validator(mode="after")
    def _check(self) -> SweepPlan:
        if not (self.models or self.ablate) or not self.tasks:
            raise ValueError("name at least one task, and models or a ladder to ablate")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: expected at least one, and each once")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise ValueError(f"shard {self.shard[0]}/{self.shard[1]}: expected 1/n to n/n")
        return self


def load_plan(file: Path | None, given: Mapping[str, Any]) -> SweepPlan:
    """The plan of a file, or of none, with what was given besides laid over it.

    Raises:
        UsageError: no such file, not YAML, an unknown key (with its near misses), a value out of range.
    """
    content: dict[str, Any] = {}
    if file is not None:
        try:
            loaded = yaml.safe_load(file.read_text("utf-8"))
        except OSError as error:
            raise UsageError(f"Cannot read the sweep {file}: {error.strerror}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} is not valid YAML: {error}") from None
        if not isinstance(loaded, dict):
            raise UsageError(f"{file}: expected keys and values, for example `tasks: [listops]`.")
        content = loaded
    settings = content.get("settings")
    if isinstance(settings, dict) and "settings" in given:
        given = {**given, "settings": {**settings, **given["settings"]}}
    try:
        return SweepPlan.model_validate({**content, **given})
    except ValidationError as error:
        raise UsageError(f"{file or 'The sweep'}: {explain(error, SweepPlan)}") from None


def parse_axes(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """["model.rank=32,64"] -> {"model.rank": [32, 64]}; ["optimizer.betas=[0.9,0.98]"] is one value.

    Raises:
        UsageError: not of the form KEY=VALUE, or an unknown root.
    """
    axes: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment!r}: expected KEY=VALUE, for example model.rank=32,64.")
        check_key(key)
        try:
            # What stands between commas, each as YAML: brackets and quotes keep theirs together.
            axes[key] = yaml.safe_load(f"[{text}]") or [None]
        except yaml.YAMLError:
            raise UsageError(f"--set {assignment!r}: the value is not valid YAML.") from None
    return axes


def with_launcher_settings(plan: SweepPlan, assignments: Iterable[str]) -> SweepPlan:
    """["partition=gpu"] laid over the section of the plan's launcher; values are read as YAML.

    Raises:
        UsageError: not of the form KEY=VALUE, or the launcher has no section.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if plan.launcher == "local":
            raise UsageError(f"--launcher-set {assignment!r} is for --launcher slurm or ray.")
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--launcher-set {assignment!r}: the value is not valid YAML.") from None
        if not (key and equals):
            raise UsageError(f"--launcher-set {assignment!r}: expected KEY=VALUE, for example partition=gpu.")
    if not changes:
        return plan
    return plan.model_copy(update={plan.launcher: {**getattr(plan, plan.launcher), **changes}})
