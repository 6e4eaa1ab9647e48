"""The command of a record gives the same cell again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from lra_bench.cell import parse_assignments
from lra_bench.records import RunRecord
from lra_bench.report.reproduction import command_of


def with_options(base: RunRecord, options: dict[str, Any], **changes: Any) -> RunRecord:
    content = base.model_dump(by_alias=True) | changes
    content["model"]["changed_options"] = options
    content["protocol"]["overrides"] = {}
    return RunRecord.model_validate(content)


@pytest.mark.parametrize(
    "value",
    [64, 0.5, True, None, "orf", "no", "1", "two words", "a'b; rm -rf /", "$(id)", [1, 2], {"a": "b"}],
)
def test_every_value_survives_the_shell_and_yaml(base: RunRecord, value: Any) -> None:
    words = shlex.split(command_of(with_options(base, {"option": value})))
    assert parse_assignments([words[words.index("--set") + 1]]) == {"model.option": value}


def test_what_is_not_default_is_said(base: RunRecord) -> None:
    plain = command_of(with_options(base, {}))
    assert "--compile" not in plain
    assert "--precision" not in plain
    other = command_of(with_options(base, {}, precision="bf16", compiled=True, metrics=["time"], seed=7))
    for words in ("--precision bf16", "--compile", "--metrics time", "--seed 7", "--device cpu"):
        assert words in other
