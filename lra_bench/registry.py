"""Registries of models and tasks: exact names, near-name suggestions, dotted paths, entry points.

The catalogs are data (`models/catalog.yaml`, `tasks/catalog.yaml`), so that listing them imports
neither torch nor any model. A class is imported only when `Entry.load` is called.
"""

from __future__ import annotations

import fnmatch
import functools
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
from lra_bench.plugins import Offer, import_class, offers_of

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
        return import_class(self.target, self.name)


@dataclass(frozen=True)
class Option:
    """A hyperparameter of a model or a task, read from its constructor's keyword arguments."""

    name: str
    annotation: Any
    default: Any
    required: bool


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
    def offers(self) -> tuple[Offer, ...]:
        """What installed packages offer; nothing of it is imported."""
        return tuple(offers_of(self._group))

    def __iter__(self) -> Iterator[Entry]:
        """The catalog alone: the same on every machine, whatever is installed there."""
        yield from self._entries.values()

    def names(self) -> list[str]:
        """Of the catalog, then of what is offered."""
        return list(dict.fromkeys([*self._entries, *(offer.name for offer in self.offers)]))

    def get(self, name: str) -> Entry:
        """The entry called exactly `name`, or the class at a dotted path `package.module:Class`.

        Raises:
            UsageError: no such name (the message lists the near misses), a name that stands for two things,
                or a class that can't be imported.
        """
        offered = [offer for offer in self.offers if offer.name == name]
        if len(offered) + (name in self._entries) > 1:
            raise UsageError(self.clash(name))
        if name in self._entries:
            return self._entries[name]
        if offered:
            return self._from_class(name, offered[0].target)
        if ":" in name:
            # Somebody's own module may lie in the working folder; what is installed comes first.
            if os.getcwd() not in sys.path:
                sys.path.append(os.getcwd())
            return self._from_class(name, name)
        raise UsageError(f"Unknown {self.noun} {name!r}. {self._hint(name)}")

    def match(self, pattern: str) -> list[Entry]:
        """Entries whose name matches a glob, in the order of `names`.

        Raises:
            UsageError: as `get`, of a name that matches.
        """
        return [self.get(name) for name in self.names() if fnmatch.fnmatchcase(name, pattern)]

    def clash(self, name: str) -> str:
        """What is wrong with a name that stands for two things; empty for any other name."""
        claims = [f"{offer.target} of {offer.package}" for offer in self.offers if offer.name == name]
        if len(claims) + (name in self._entries) < 2:
            return ""
        if name in self._entries:
            claims.insert(0, f"{self._entries[name].target} of lra-bench")
        return (
            f"{name!r} stands for more than one {self.noun}: {'; '.join(claims)}. Rename the entry point in "
            f"its package's pyproject.toml (group {self._group}), or uninstall that package."
        )

    def _hint(self, name: str) -> str:
        module, dot, last = name.rpartition(".")
        if dot and module:
            return f"A class of your own is named package.module:Class, here {module}:{last}."
        return f"{suggest(name, self.names())} What a package offers is known where it is installed."

    def _from_class(self, name: str, target: str) -> Entry:
        """A card for a class outside the catalogs; its `card` attribute, a mapping, may say more."""
        loaded = import_class(target, name)
        default_kind = "task" if self.noun == "task" else "mixer"
        summary = (inspect.getdoc(loaded) or name).splitlines()[0]
        try:
            card = {"kind": default_kind, "summary": summary, **getattr(loaded, "card", {}), "target": target}
            return _parse_entry(name, card, f"{target}.card")
        except (LraBenchError, TypeError) as error:
            raise UsageError(f"{name}: its `card` is not one. {error}") from error


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
    kinds = typing.get_args(Kind)
    if card.get("kind", kinds[0]) not in kinds:
        raise LraBenchError(
            f"{source}: {name} is of an unknown kind {card['kind']!r}. Known: {', '.join(kinds)}."
        )
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
