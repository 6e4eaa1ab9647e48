"""What a measuring session will measure, resolved and checked before any work."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lra_bench import protocol as protocols
from lra_bench import registry
from lra_bench.bench.records import EXPLICIT, REFERENCE, Role
from lra_bench.bench.workload import TASK
from lra_bench.building import resolve_model_options
from lra_bench.cell import PRECISIONS, check_choice, reserved_arguments, resolve_device
from lra_bench.errors import UsageError, require, suggest
from lra_bench.measure.environment import host_hash, source_commit
from lra_bench.protocol import Protocol, Settings, digest
from lra_bench.records import StepMode
from lra_bench.registry import Entry

LENGTHS = (1024, 2048, 3072, 4096)
"""Of the 2020 paper's efficiency table."""
GROUP_SIZE = 5
"""Cells that take turns beside their reference. Few, so that a round is short against the machine's drift."""
PROCESSES = 3
"""That a cell is timed in, one after another: equal processes differ, for as long as they live."""
CPU_BATCH_SIZE = 4
"""By default on a CPU, where the protocol's batch would take hours."""
NETWORKS = ("mixer", "encoder")


@dataclass(frozen=True)
class BenchCell:
    """One model at one length."""

    model: str
    options: Mapping[str, Any]
    changed_options: Mapping[str, Any]
    length: int
    compiled: bool
    role: Role
    group: int

    @property
    def file_name(self) -> str:
        """Without its ending; one for each cell of a session."""
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.model)
        parts = [safe, str(self.length)]
        if self.changed_options:
            parts.insert(1, digest(dict(self.changed_options))[:8])
        if self.compiled:
            parts.append("compiled")
        if self.role == "reference":
            parts.append(f"group{self.group}")
        return "-".join(parts)


@dataclass(frozen=True)
class Plan:
    """Everything that determines a session, and nothing that differs between its models but themselves."""

    models: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]]
    """Resolved, by model."""
    changed_options: Mapping[str, Mapping[str, Any]]
    protocol: str
    protocol_sha256: str
    overrides: Mapping[str, Any]
    settings: Settings
    device: str
    device_slug: str
    precision: str
    mode: StepMode
    lengths: tuple[int, ...]
    compiled: tuple[bool, ...]
    padded: bool
    cell_seconds: float
    timeout_s: float
    group_size: int
    processes: int

    @functools.cached_property
    def sha256(self) -> str:
        """Also over machine, torch and source: an interrupted session continues on the same ones only."""
        content = asdict(self)
        content["settings"] = self.settings.model_dump(mode="json", exclude={"note"})
        del content["device"]
        return digest(
            {**content, "host": host_hash(), "torch": str(torch.__version__), "source": source_commit()}
        )

    @functools.cached_property
    def groups(self) -> list[list[BenchCell]]:
        """Cells that take turns, the reference first: of one length, and compiled alike."""
        groups: list[list[BenchCell]] = []
        others = [name for name in self.models if name != REFERENCE]
        for length in self.lengths:
            for compiled in self.compiled:
                for start in range(0, max(len(others), 1), self.group_size):
                    number = len(groups)

                    def cell(
                        model: str,
                        role: Role,
                        number: int = number,
                        length: int = length,
                        compiled: bool = compiled,
                    ) -> BenchCell:
                        own = role == "cell"
                        return BenchCell(
                            model,
                            self.options[model] if own else self.options[REFERENCE],
                            self.changed_options[model] if own else {},
                            length,
                            compiled,
                            role,
                            number,
                        )

                    members = [cell(name, "cell") for name in others[start : start + self.group_size]]
                    groups.append([cell(REFERENCE, "reference"), *members])
        return groups


def resolve_plan(
    models: Sequence[str] | None = None,
    lengths: Sequence[int] = LENGTHS,
    *,
    protocol: str | Protocol = "quick",
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    compiled: Sequence[bool] = (False,),
    mode: StepMode = "train",
    padded: bool = False,
    assignments: Mapping[str, Any] | None = None,
    cell_seconds: float = 60.0,
    timeout_s: float = 600.0,
    group_size: int = GROUP_SIZE,
    processes: int = PROCESSES,
) -> Plan:
    """Checks everything a user named.

    Args:
        models: names, globs or dotted paths; all networks that are no controls by default. `transformer` and
            `transformer_explicit` are always there: ratios need them.
        protocol: whose architecture and optimiser for `text` every model gets.
        batch_size: the protocol's by default, but 4 on a CPU.
        assignments: dotted keys under a section of the protocol, or under `model` for all models named.
        cell_seconds: how long a cell may be timed; at least five turns are taken in any case.
        timeout_s: how long any single answer of a cell may take before it ends as `timeout`.
        processes: how many fresh ones each cell is timed in, each for its share of `cell_seconds`.

    Raises:
        UsageError: an unknown name or key, a value out of range, or a model without a step to time.
    """
    check_choice("precision", precision, PRECISIONS)
    require(bool(lengths) and min(lengths) >= 1, "lengths", list(lengths), "lengths of at least 1 token")
    require(cell_seconds > 0, "cell_seconds", cell_seconds, "more than 0 seconds")
    require(timeout_s > 0, "timeout_s", timeout_s, "more than 0 seconds")
    require(group_size >= 1, "group_size", group_size, "at least 1")
    require(processes >= 1, "processes", processes, "at least 1")
    loaded = protocols.load(protocol) if isinstance(protocol, str) else protocol
    given = dict(assignments or {})
    device, slug = resolve_device(device)
    if batch_size is None and device == "cpu" and "budget.batch_size" not in given:
        batch_size = CPU_BATCH_SIZE
    if batch_size is not None:
        given["budget.batch_size"] = batch_size
    own = {key.removeprefix("model."): value for key, value in given.items() if key.startswith("model.")}
    overrides = {key: value for key, value in given.items() if not key.startswith("model.")}
    for key in overrides:
        if key.startswith("task."):
            raise UsageError(f"--set {key}: a measuring session has no task; its batches are random bytes.")
    named = [entry.name for entry in match_networks(models)]
    compared = [name for name in named if name not in (REFERENCE, EXPLICIT)]
    if own and not compared:
        raise UsageError(
            f"--set model.{next(iter(own))}: {REFERENCE} and {EXPLICIT} are what others are compared with, "
            "and keep their defaults. Name another model, or use `lra-bench run`."
        )
    everyone = tuple(dict.fromkeys([REFERENCE, *named, EXPLICIT]))
    options, changed = {}, {}
    for name in everyone:
        entry = registry.models.get(name)
        mine = own if name in compared else {}
        defaults = resolve_model_options(entry, {}, reserved_arguments(entry))
        options[name] = resolve_model_options(entry, mine, reserved_arguments(entry))
        changed[name] = {key: value for key, value in options[name].items() if defaults.get(key) != value}
    return Plan(
        models=everyone,
        options=options,
        changed_options=changed,
        protocol=loaded.name,
        protocol_sha256=loaded.sha256,
        overrides=overrides,
        settings=loaded.settings(TASK, overrides=overrides),
        device=device,
        device_slug=slug,
        precision=precision,
        mode=mode,
        lengths=tuple(sorted(set(lengths))),
        compiled=tuple(compiled),
        padded=padded,
        cell_seconds=cell_seconds,
        timeout_s=timeout_s,
        group_size=group_size,
        processes=processes,
    )


def match_networks(patterns: Iterable[str] | None) -> list[Entry]:
    """Models by name, glob or dotted path, in the order given; by default all that are no controls.

    Raises:
        UsageError: a pattern that fits nothing, or a name of something without a training step.
    """
    if patterns is None:
        return [
            entry for entry in registry.models.match("*") if entry.kind in NETWORKS and not entry.is_control
        ]
    found: dict[str, Entry] = {}
    for pattern in patterns:
        if any(character in pattern for character in "*?["):
            matched = [
                entry
                for entry in registry.models.match(pattern)
                if entry.kind in NETWORKS and not entry.is_control
            ]
            if not matched:
                raise UsageError(
                    f"No model matches {pattern!r}. {suggest(pattern.strip('*?'), registry.models.names())}"
                )
        else:
            matched = [registry.models.get(pattern)]
            if matched[0].kind not in NETWORKS:
                raise UsageError(
                    f"{pattern} is of kind {matched[0].kind}; only mixers and encoders have a step to time."
                )
        found.update({entry.name: entry for entry in matched})
    return list(found.values())
