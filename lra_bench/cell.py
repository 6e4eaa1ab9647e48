"""A cell of the table: model x task x protocol x device x seed, resolved, hashed, with its place on disk."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from lra_bench import protocol as protocols
from lra_bench import registry
from lra_bench.building import build_model, resolve_model_options
from lra_bench.data.building import COMMON_OPTIONS, build_task, resolve_task_options
from lra_bench.data.task import Task
from lra_bench.errors import UsageError, suggest
from lra_bench.estimator import CONTRACT_ARGUMENTS as ESTIMATOR_ARGUMENTS
from lra_bench.estimator import build_estimator
from lra_bench.mixer import CONTRACT_ARGUMENTS
from lra_bench.own_source import source_digest
from lra_bench.protocol import Protocol, Settings, digest
from lra_bench.records import PARTIAL_SUFFIX, SCHEMA
from lra_bench.registry import Entry
from lra_bench.shapes import shapes_only

Metric = Literal["accuracy", "time", "memory", "flops"]
METRICS: tuple[Metric, ...] = ("accuracy", "time", "memory", "flops")
PRECISIONS = ("fp32", "bf16")
ROOTS = ("model", "task", *Settings.model_fields)

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Cell:
    """Everything that determines one result, checked. Plain data: travels to a worker as JSON."""

    model: str
    model_options: Mapping[str, Any]
    task: str
    task_options: Mapping[str, Any]
    task_parameters: Mapping[str, Any]
    protocol: str
    protocol_sha256: str
    ranks: bool
    overrides: Mapping[str, Any]
    settings: Settings
    device: str
    device_slug: str
    seed: int
    precision: Precision
    compiled: bool
    metrics: tuple[Metric, ...]
    tuning_trials: int = 0
    """How many learning rates and weight decays were tried, of which `settings` has the best."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Digests of the code of `model` and `task`, of those that are somebody's own (`own_source`): when it
    changes, the cell is another one, and nothing that the old code has left is taken for its result."""

    @functools.cached_property
    def run_id(self) -> str:
        """Hash of all that shapes the result; not of where the device is plugged in (`cuda:0`)."""
        content = {
            "schema": SCHEMA,
            "model": [self.model, self.model_options],
            "task": [self.task, self.task_parameters],
            "settings": self.settings.model_dump(mode="json", exclude={"note"}),
            "device": self.device_slug,
            "seed": self.seed,
            "precision": self.precision,
            "compiled": self.compiled,
            "metrics": self.metrics,
        }
        if self.tuning_trials:  # Cells that aren't tuned keep the ids they had before there was tuning.
            content["tuning_trials"] = self.tuning_trials
        if self.sources:
            content["sources"] = self.sources
        return digest(content)[:16]

    @property
    def model_entry(self) -> Entry:
        return registry.models.get(self.model)

    @property
    def task_entry(self) -> Entry:
        return registry.tasks.get(self.task)

    @property
    def changed_options(self) -> dict[str, Any]:
        """The model's options that differ from the defaults."""
        defaults = resolve_model_options(self.model_entry, {}, reserved_arguments(self.model_entry))
        return {name: value for name, value in self.model_options.items() if defaults.get(name) != value}

    def build_task(self) -> Task:
        return build_task(self.task_entry, self.task_options)

    def record_path(self, results: Path) -> Path:
        """results/runs/<device>/<protocol>/<task>/<model>/<run-id>.json"""
        folder = (
            results / "runs" / self.device_slug / _safe(self.protocol) / _safe(self.task) / _safe(self.model)
        )
        return folder / f"{self.run_id}.json"

    def partial_folder(self, results: Path) -> Path:
        """Where a run in progress keeps its checkpoint and what it has measured so far."""
        return self.record_path(results).with_suffix(PARTIAL_SUFFIX)

    def to_json(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**content, "settings": self.settings.model_dump(mode="json"), "metrics": list(self.metrics)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Cell:
        values = dict(content)
        values["settings"] = Settings.model_validate(values["settings"])
        values["metrics"] = tuple(values["metrics"])
        return cls(**values)


def _safe(name: str) -> str:
    """A folder name for a dotted path or a protocol file."""
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in name)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """["model.rank=64"] -> {"model.rank": 64}; values are read as YAML.

    Raises:
        UsageError: not of the form KEY=VALUE, or a root that is not one of `ROOTS`.
    """
    parsed = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment!r}: expected KEY=VALUE, for example model.rank=64.")
        check_key(key)
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--set {assignment!r}: the value is not valid YAML.") from None
    return parsed


def check_key(key: str) -> None:
    """Raises UsageError unless `key` is a dotted one below one of `ROOTS`."""
    root, dot, rest = key.partition(".")
    if not (dot and rest):
        raise UsageError(f"--set {key}: expected a dotted key, for example model.rank.")
    if root not in ROOTS:
        raise UsageError(f"--set {key}: unknown key {root!r}. {suggest(root, ROOTS)}")


def resolve_cell(
    model: str,
    task: str,
    *,
    protocol: str | Protocol = "quick",
    device: str = "auto",
    seed: int = 0,
    precision: str = "fp32",
    compiled: bool = False,
    metrics: Sequence[str] = METRICS,
    assignments: Mapping[str, Any] | None = None,
    length: int | None = None,
) -> Cell:
    """Checks everything a user named and set, before any work.

    Args:
        protocol: a name, a YAML file or a loaded Protocol.
        device: auto, cpu, cuda, cuda:N or mps; auto takes CUDA where there is one.
        assignments: dotted keys under `model`, `task` or a section of the protocol.
        length: longest sequence in tokens, for tasks that can vary it.

    Raises:
        UsageError: an unknown name or key (the message has the near misses), or a value out of range.
    """
    model_entry = registry.models.get(model)
    task_entry = registry.tasks.get(task)
    loaded = protocols.load(protocol) if isinstance(protocol, str) else protocol
    _check_applicable(model_entry, task_entry)
    check_choice("precision", precision, PRECISIONS)
    if model_entry.kind == "estimator":
        precision, compiled = "fp32", False  # They concern models only; one fit is one cell.
    for metric in metrics:
        check_choice("metric", metric, METRICS)

    assignments = dict(assignments or {})
    model_options = _below("model", assignments)
    task_changes = _below("task", assignments)
    overrides = {
        key: value for key, value in assignments.items() if key.partition(".")[0] not in {"model", "task"}
    }
    settings = loaded.settings(task, control=model_entry.is_control, overrides=overrides)

    task_options = {**settings.data.options, **task_changes}
    if length is not None:
        known = resolve_task_options(task_entry, task_options)
        own = {name: value for name, value in known.items() if name not in COMMON_OPTIONS}
        changed = task_entry.load().options_for_length(length, own)
        task_changes.update({name: value for name, value in changed.items() if known.get(name) != value})
        task_options.update(changed)
    task_options = resolve_task_options(task_entry, task_options)
    overrides.update({f"task.{name}": value for name, value in task_changes.items()})

    model_options = resolve_model_options(model_entry, model_options, reserved_arguments(model_entry))
    device, slug = resolve_device(device)
    built_task = build_task(task_entry, task_options)
    _check_builds(model_entry, model_options, settings, built_task)
    return Cell(
        model=model,
        model_options=model_options,
        task=task,
        task_options=task_options,
        task_parameters=built_task.parameters(),
        protocol=loaded.name,
        protocol_sha256=loaded.sha256,
        ranks=loaded.ranks,
        overrides=overrides,
        settings=settings,
        device=device,
        device_slug=slug,
        seed=seed,
        precision=cast(Precision, precision),
        compiled=compiled,
        metrics=tuple(m for m in METRICS if m in metrics and _measurable(m, model_entry, settings, device)),
        sources=sources_of(model_entry, task_entry),
    )


def sources_of(model: Entry, task: Entry) -> dict[str, str]:
    """{"model": digest, "task": digest}, without what lra-bench itself registers."""
    found = {"model": source_digest(model.load()), "task": source_digest(task.load())}
    return {what: digest for what, digest in found.items() if digest}


def reserved_arguments(entry: Entry) -> frozenset[str]:
    """Keyword arguments of an entry's class that the harness gives: all others are options."""
    return {"classifier": frozenset[str](), "estimator": ESTIMATOR_ARGUMENTS}.get(
        entry.kind, CONTRACT_ARGUMENTS
    )


def _measurable(metric: str, entry: Entry, settings: Settings, device: str) -> bool:
    """Accuracy needs training; peak memory is not measured on MPS, which has no counter to reset.

    An estimator has no training step whose time, memory or FLOPs could be measured.
    """
    if metric == "accuracy":
        return settings.budget.steps > 0
    if entry.kind == "estimator":
        return False
    return metric != "memory" or device != "mps"


def _below(root: str, assignments: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{root}."
    return {key.removeprefix(start): value for key, value in assignments.items() if key.startswith(start)}


def check_choice(what: str, value: str, known: Sequence[str]) -> None:
    """Raises UsageError, with the near misses, unless `value` is known."""
    if value not in known:
        raise UsageError(f"Unknown {what} {value!r}. {suggest(value, known)}")


def _check_applicable(model: Entry, task: Entry) -> None:
    if model.tasks and task.name not in model.tasks:
        raise UsageError(
            f"{model.name} is a control for {', '.join(model.tasks)} and means nothing on {task.name}. "
            f"Controls of {task.name}: {', '.join(task.controls) or 'none'}."
        )


def _check_builds(entry: Entry, options: Mapping[str, Any], settings: Settings, task: Task) -> None:
    """Builds the model without memory, so that a value out of range is found before any work."""
    if entry.kind == "estimator":
        build_estimator(entry, options, task.spec, seed=0)
        return
    architecture = settings.architecture
    with shapes_only():
        build_model(entry, options, architecture, task.spec)


def resolve_device(name: str) -> tuple[str, str]:
    """("auto") -> ("cpu", its slug), checked to be there.

    Raises:
        UsageError: no such device here.
    """
    import torch

    from lra_bench.measure.environment import device_slug

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (index and not index.isdigit()):
        raise UsageError(f"Unknown device {name!r}. {suggest(kind, ['auto', 'cpu', 'cuda', 'mps'])}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"Device {name!r}: this machine or this PyTorch has no CUDA. Use --device cpu.")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise UsageError(f"Device {name!r}: there are {torch.cuda.device_count()} CUDA devices here.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"Device {name!r}: this machine or this PyTorch has no MPS. Use --device cpu.")
    return name, device_slug(torch.device(name))
