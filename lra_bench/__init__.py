"""lra-bench: accuracy, step time and peak memory of efficient attention on the Long Range Arena.

    from lra_bench import run, load_task, load_model, load_records, leaderboard

Nothing heavy is imported before one of these names is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lra_bench.api import load_model, run
    from lra_bench.data.loading import load_task
    from lra_bench.record_store import load_records, records_frame
    from lra_bench.report.leaderboard import leaderboard

_HOMES = {
    "run": "lra_bench.api",
    "load_model": "lra_bench.api",
    "load_task": "lra_bench.data.loading",
    "load_records": "lra_bench.record_store",
    "records_frame": "lra_bench.record_store",
    "leaderboard": "lra_bench.report.leaderboard",
}

__all__ = ["leaderboard", "load_model", "load_records", "load_task", "records_frame", "run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
