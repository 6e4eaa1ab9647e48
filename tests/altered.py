"""Copies of a record with other values."""

from __future__ import annotations

from typing import Any

from lra_bench.records import RunRecord


def altered(base: RunRecord, run_id: str, **changes: Any) -> RunRecord:
    """A record like `base`, by another id: `model__name="x"` changes the `name` of its `model`."""
    content = base.model_dump(by_alias=True)
    content["run_id"] = run_id
    for key, value in changes.items():
        node = content
        *path, last = key.split("__")
        for part in path:
            node = node[part]
        node[last] = value
    return RunRecord.model_validate(content)
