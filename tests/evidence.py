"""What the proofs of a test run showed, gathered into one table of models.

A test calls the fixture `evidence(model, column, value)`; `pytest ... --evidence FILE` writes the table
once the run is over. Workers send theirs along with their reports.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KEY = "evidence"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--evidence", type=Path, default=None, help="write what the proofs showed to this file")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--evidence") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Gatherer(config.getoption("--evidence")), "evidence-gatherer")


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Callable[[str, str, Any], None]:
    """evidence(model, column, value): value is a number, text or a mapping that JSON can hold."""

    def note(model: str, column: str, value: Any) -> None:
        request.node.user_properties.append((KEY, {"model": model, "column": column, "value": value}))

    return note


class _Gatherer:
    """Collects from the reports of tests that passed; and how far learning got, either way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: dict[str, dict[str, list[Any]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        for key, item in report.user_properties:
            if key == KEY and (report.passed or item["column"] == "learns"):
                columns = self.table.setdefault(item["model"], {})
                columns.setdefault(item["column"], []).append(item["value"])

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps(self.table, indent=1, sort_keys=True) + "\n", "utf-8")
