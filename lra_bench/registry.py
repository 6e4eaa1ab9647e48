"""Registries of models and tasks: exact names, near-name suggestions, dotted paths, entry points.

The catalogs are data (`models/catalog.yaml`, `tasks/catalog.yaml`), so that listing them imports
neither torch nor any model. A class is imported only when `Entry.load` is called.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import importlib.metadata
import importlib.resources
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import yaml

from lra_bench.errors import LraBenchError, OptionError, UsageError, suggest

Kind = Literal["mixer", "encoder", "classifier", "estimator", "task"]


@dataclass(frozen=True)
class Paper:
    """Where a variant or a task comes from."""

    title: str
    authors: str
    year: int
    arxiv: str | None = None
    url: str | None = None

    @property
    def link(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else (self.url or "")


@dataclass(frozen=True)
class Rung:
    """One step of a ladder: a model with options that differs from the step before in one thing."""

    label: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One line of a catalog: the card of a model or a task."""

    name: str
    kind: Kind
    target: str
    summary: str
    family: str = "external"
    paper: Paper | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Preset values of options, for an entry that is a named variant of a class."""
    time: str = ""
    memory: str = ""
    """Claimed growth of the core, in n (length), d (width) and the paper's own symbols."""
    needs_max_length: bool = False
    """Has parameters or tables whose size is the longest length it can take."""
    padding_invariant: bool = True
    """Neither the content nor the amount of padding changes the output at real tokens."""
    stochastic_in_eval: bool = False
    causal: bool = False
    """No output depends on a later token."""
    formula: str = ""
    """What the core computes, in the symbols of the paper."""
    traps: tuple[str, ...] = ()
    """Mistakes that implementations of it are known to make; each is caught by a test."""
    deviations: tuple[str, ...] = ()
    """Where ours is not the paper's, and why."""
    recall_limit: str = ""
    """Why its mechanism can't solve the recall task, where it can't."""
    ladder: tuple[Rung, ...] = ()
    """From the plain Transformer to the whole variant, one change a step."""
    tasks: tuple[str, ...] = ()
    """For controls: the tasks it is defined on; empty for all."""
    rules_out: str = ""
    """For controls: what a score above it rules out."""
    controls: tuple[str, ...] = ()
    """For tasks: the controls that stand beside every score."""
    averages: tuple[int, ...] = ()
    """For tasks: the averages that it counts in, by their number of tasks. The literature has one of five
    and, with Path-X, one of six; they are different figures."""
    licence: str = ""
    notes: str = ""

    @property
    def is_control(self) -> bool:
        return self.family == "control"

    def load(self) -> type[Any]:
        """Imports the class behind this entry."""
        return _import_target(self.target, self.name)


@dataclass(frozen=True)
class Option:
    """A hyperparameter of a model or a task, read from its constructor's keyword arguments."""

    name: str
    annotation: Any
    default: Any
    required: bool


def _import_target(target: str, name: str) -> type[Any]:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{name}: cannot import {module_name} ({error}). Is the package installed?"
        ) from error
    try:
        loaded = getattr(module, attribute)
    except AttributeError:
        raise UsageError(
            f"{name}: {module_name} has no {attribute!r}. {suggest(attribute, dir(module))}"
        ) from None
    if not inspect.isclass(loaded):
        raise UsageError(f"{name}: {target} is not a class.")
    return loaded


class Registry:
    """Names to cards, from a catalog and from entry points of installed packages."""

    def __init__(self, noun: str, package: str, entry_point_group: str) -> None:
        self.noun = noun
        self._package = package
        self._group = entry_point_group

    @functools.cached_property
    def _entries(self) -> dict[str, Entry]:
        text = importlib.resources.files(self._package).joinpath("catalog.yaml").read_text(encoding="utf-8")
        return parse_catalog(text, f"{self._package}/catalog.yaml")

    @functools.cached_property
    def _plugins(self) -> dict[str, str]:
        points = importlib.metadata.entry_points(group=self._group)
        return {point.name: point.value for point in points if point.name not in self._entries}

    def __iter__(self) -> Iterator[Entry]:
        yield from self._entries.values()
        for name in self._plugins:
            yield self.get(name)

    def names(self) -> list[str]:
        return [*self._entries, *self._plugins]

    def get(self, name: str) -> Entry:
        """The entry called exactly `name`, or the class at a dotted path `package.module:Class`.

        Raises:
            UsageError: no such name; the message lists the near misses.
        """
        if name in self._entries:
            return self._entries[name]
        if name in self._plugins:
            return self._from_class(name, self._plugins[name])
        if ":" in name:
            # Somebody's own module may lie in the working folder; what is installed comes first.
            if os.getcwd() not in sys.path:
                sys.path.append(os.getcwd())
            return self._from_class(name, name)
        raise UsageError(f"Unknown {self.noun} {name!r}. {suggest(name, self.names())}")

    def match(self, pattern: str) -> list[Entry]:
        """Entries whose name matches a glob, in catalog order."""
        return [entry for entry in self if fnmatch.fnmatchcase(entry.name, pattern)]

    def _from_class(self, name: str, target: str) -> Entry:
        """A card for a class outside the catalogs; its `card` attribute, a mapping, may say more."""
        loaded = _import_target(target, name)
        default_kind = "task" if self.noun == "task" else "mixer"
        summary = (inspect.getdoc(loaded) or name).splitlines()[0]
        card = {"kind": default_kind, "summary": summary, **getattr(loaded, "card", {}), "target": target}
        return _parse_entry(name, card, f"{target}.card")


def parse_catalog(text: str, source: str) -> dict[str, Entry]:
    """Reads a catalog. Unknown keys, missing keys and repeated names are errors."""
    loaded = yaml.load(text, Loader=_UniqueKeyLoader)
    if not isinstance(loaded, dict):
        raise LraBenchError(f"{source}: expected a mapping from names to cards.")
    return {name: _parse_entry(name, card, source) for name, card in loaded.items()}


def _parse_entry(name: str, card: Mapping[str, Any], source: str) -> Entry:
    known = {f.name for f in fields(Entry)} - {"name"}
    for key in card:
        if key not in known:
            raise LraBenchError(f"{source}: {name} has an unknown key {key!r}. {suggest(key, known)}")
    values = dict(card)
    if values.get("paper") is not None:
        values["paper"] = Paper(**{**values["paper"], "arxiv": _text(values["paper"].get("arxiv"))})
    for key in ("tasks", "controls", "averages", "traps", "deviations"):
        values[key] = tuple(values.get(key, ()))
    try:
        # A rung without a model is the entry itself, with other options.
        values["ladder"] = tuple(Rung(**{"model": name, **rung}) for rung in values.get("ladder", ()))
        return Entry(name=name, **values)
    except TypeError as error:
        raise LraBenchError(f"{source}: {name} is incomplete ({error}).") from error


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys; a catalog must not lose an entry that way."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise LraBenchError(f"{node.start_mark}: {key!r} stands twice.")
        return super().construct_mapping(node, deep)


def options_of(target: Callable[..., Any], reserved: frozenset[str]) -> dict[str, Option]:
    """The options of a constructor: its keyword-only arguments that are not in `reserved`."""
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    options = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name in reserved:
            continue
        required = parameter.default is parameter.empty
        options[parameter.name] = Option(
            parameter.name,
            hints.get(parameter.name, Any),
            None if required else parameter.default,
            required,
        )
    return options


def resolve_options(
    entry: Entry,
    given: Mapping[str, Any],
    reserved: frozenset[str],
    what: str,
    common: Mapping[str, Option] | None = None,
) -> dict[str, Any]:
    """All options of an entry's class: defaults, the card's presets, then `given`, checked and typed.

    `common` are options that all entries of this sort have besides those of their class.

    Raises:
        UsageError: an unknown option; the message lists the known ones.
        OptionError: a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    known = {**options_of(entry.load(), reserved), **(common or {})}
    merged = {**entry.options, **given}
    resolved = {}
    for name in merged:
        if name not in known:
            listed = ", ".join(known) if known else "none"
            raise UsageError(
                f"{what} {entry.name} has no option {name!r}. {suggest(name, known)} Its options: {listed}."
            )
    for name, option in known.items():
        if name not in merged:
            if option.required:
                raise OptionError(f"{what} {entry.name} needs the option {name!r}.")
            resolved[name] = option.default
            continue
        try:
            resolved[name] = TypeAdapter(option.annotation).validate_python(merged[name])
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise OptionError(
                f"{what} {entry.name}: {name}={merged[name]!r} is not valid. {reason}."
            ) from None
    return resolved


models = Registry("model", "lra_bench.models", "lra_bench.models")
tasks = Registry("task", "lra_bench.tasks", "lra_bench.tasks")
