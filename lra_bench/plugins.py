"""Classes of somebody else's: at a dotted path `package.module:Class`, or offered by an installed package.

A package offers a class under a name of its own through an entry point:

    [project.entry-points."lra_bench.models"]
    my_attention = "my_package.module:MyAttention"

What is offered is known without importing it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import traceback
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lra_bench.errors import UsageError, suggest


@dataclass(frozen=True)
class Offer:
    """A name that an installed package offers for a class of its own."""

    name: str
    target: str
    """`package.module:Class`"""
    package: str
    """Name and version of the distribution."""


def offers_of(group: str) -> list[Offer]:
    """All offers of an entry-point group, in the order in which packages are found. Imports none of them."""
    found = []
    for point in importlib.metadata.entry_points(group=group):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
        found.append(
            Offer(point.name, f"{point.module}:{point.attr}" if point.attr else point.module, package)
        )
    return found


def import_class(target: str, name: str) -> type[Any]:
    """The class at `package.module:Class`.

    Raises:
        UsageError: not of this form, nothing there, or the module fails as it is imported. The message begins
            with `name` and says what to do.
    """
    module_name, colon, attribute = target.partition(":")
    if not (colon and _is_dotted(module_name) and _is_dotted(attribute)):
        raise UsageError(f"{name}: {target!r} names no class: expected package.module:Class.")
    loaded: Any = _import(module_name, name)
    for part in attribute.split("."):
        owner = loaded
        try:
            loaded = getattr(owner, part)
        except AttributeError:
            own = [key for key, value in vars(owner).items() if _is_own_class(value, module_name)]
            raise UsageError(f"{name}: {module_name} has no {part!r}. {suggest(part, own)}") from None
    if not inspect.isclass(loaded):
        raise UsageError(f"{name}: {target} is not a class but a {type(loaded).__name__}.")
    return loaded


def _import(module_name: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{module_name}.".startswith(f"{missing}."):
            raise UsageError(f"{name}: cannot import {module_name}. {_what_is_missing(missing)}") from error
        failure: Exception = error
    except Exception as error:
        failure = error
    first = (str(failure).strip().splitlines() or [""])[0]
    raise UsageError(
        f"{name}: cannot import {module_name}: {type(failure).__name__}: {first} ({_place(failure)})."
    ) from failure


def _place(failure: Exception) -> str:
    if isinstance(failure, SyntaxError):
        return f"{failure.filename}, line {failure.lineno}"
    frame = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{frame.filename}, line {frame.lineno}"


def _what_is_missing(module_name: str) -> str:
    """`module_name` is the outermost module that is not there."""
    parent, _, last = module_name.rpartition(".")
    if parent:
        inside = pkgutil.iter_modules(getattr(importlib.import_module(parent), "__path__", []))
        return f"{parent} has no module {last!r}. {suggest(last, [module.name for module in inside])}"
    return (
        f"{module_name!r} is neither installed nor in {os.getcwd()}: install its package "
        "(`pip install -e .` in its folder), or run this from the folder that holds it."
    )


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_own_class(value: object, module_name: str) -> bool:
    return inspect.isclass(value) and value.__module__ == module_name
