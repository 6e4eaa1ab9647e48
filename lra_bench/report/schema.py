"""The page that says what is in a record, from the classes that check it.

python -m lra_bench.report.schema > docs/RECORDS.md
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from lra_bench.bench.records import SCHEMA as SESSION_SCHEMA
from lra_bench.bench.records import BenchRecord, SessionRecord
from lra_bench.measure.flops import FlopCount
from lra_bench.measure.memory import PeakMemory
from lra_bench.measure.timing import StepTime
from lra_bench.records import SCHEMA, FlopsPart, PeakMemoryPart, RunRecord, StepTimePart
from lra_bench.report.table import markdown_table

ROOTS: tuple[tuple[type[BaseModel], str], ...] = (
    (RunRecord, f"`results/runs/<device>/<protocol>/<task>/<model>/<run-id>.json`, schema {SCHEMA}"),
    (SessionRecord, f"`results/bench/<device>/<session>/session.json`, schema {SESSION_SCHEMA}"),
    (BenchRecord, f"`results/bench/<device>/<session>/cells/<model>-<length>.json`, schema {SESSION_SCHEMA}"),
)
MEASURED: dict[type[BaseModel], type] = {
    StepTimePart: StepTime,
    PeakMemoryPart: PeakMemory,
    FlopsPart: FlopCount,
}
"""Parts that hold what an instrument returns: its fields are described there."""
INTRODUCTION = """\
# What is in a record

Written by `python -m lra_bench.report.schema` from the classes that check records; not by hand. Records are
JSON. Unknown keys are refused, so that a typo can't hide a number; a record of an older schema is brought up
to date when it is read.
`lra-bench validate results/` checks records from elsewhere and says what is wrong with them.
"""


def schema_markdown() -> str:
    """All kinds of records, each part once."""
    seen: set[type[BaseModel]] = set()
    parts = [INTRODUCTION]
    for root, where in ROOTS:
        parts.append(f"## {root.__name__}\n\n{_summary(root)} {where}.")
        for model in _models(root):
            if model in seen:
                continue
            seen.add(model)
            heading = [] if model is root else [f"### {model.__name__}", _summary(model)]
            parts += [*heading, markdown_table(["key", "type", "meaning"], _rows(model))]
    return "\n\n".join(parts) + "\n"


def _models(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The class and all classes of its fields, each before those within it."""
    yield root
    for field in root.model_fields.values():
        for inner in _inner(field.annotation):
            yield from _models(inner)


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _inner(argument)


def _rows(model: type[BaseModel]) -> list[list[str]]:
    described = {**field_docstrings(MEASURED.get(model, object)), **field_docstrings(model)}
    return [
        [
            f"`{field.alias or name}`",
            _type(field.annotation),
            described.get(name, ""),
        ]
        for name, field in model.model_fields.items()
    ]


def field_docstrings(model: type) -> dict[str, str]:
    """The strings below a class's fields, read from its source, so that no import pays for them."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not base.__module__.startswith("lra_bench."):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, below in itertools.pairwise(tree.body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[statement.target.id] = " ".join(str(below.value.value).split())
    return found


def _summary(model: type[BaseModel]) -> str:
    """The first paragraph of its docstring; a class without one has that of its base."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _type(annotation: Any) -> str:
    """As one would say it: 'number or null', 'list of Score'."""
    names = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "true or false",
        type(None): "null",
        Any: "any",
    }
    if annotation in names:
        return names[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(one) for one in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (list, tuple):
        kinds = list(dict.fromkeys(_type(one) for one in arguments if one is not Ellipsis))
        return f"list of {' or '.join(kinds)}"
    if origin is dict:
        return f"object: text to {_type(arguments[1])}"
    return f"{annotation.__name__}"


if __name__ == "__main__":
    print(schema_markdown(), end="")
