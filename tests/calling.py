"""The command, called in the process of the test: no second interpreter, no second import of torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest


class Called(NamedTuple):
    """How a call of the command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture
def lra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`lra("list", "models")`; what is no str becomes one."""
    from lra_bench.cli.main import main

    def call(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["lra-bench", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main()
        captured = capsys.readouterr()
        return Called(int(exit_info.value.code or 0), captured.out, captured.err)

    return call
