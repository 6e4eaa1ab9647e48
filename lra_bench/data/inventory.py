"""What is where: source data below the data folder, and prepared splits in the cache."""

from __future__ import annotations

from typing import Any

from lra_bench import registry
from lra_bench.data.cache import cache_root
from lra_bench.data.prepare import noted_fingerprints


def source_data() -> list[dict[str, Any]]:
    """A row for every layout of every task that is found below the data folder in force.

    Entries that share a class (pathfinder and pathx) find the same; it is listed once.
    """
    rows = []
    seen = set()
    for entry in registry.tasks.match("*"):
        if entry.target in seen:
            continue
        seen.add(entry.target)
        for located in entry.load().find_sources():
            rows.append(
                {
                    "task": entry.name,
                    "layout": located.layout,
                    "folder": str(located.folder),
                    "files": len(located.paths),
                    "bytes": located.size_bytes,
                }
            )
    return rows


def prepared_splits() -> list[dict[str, Any]]:
    """A row for every split in the cache, with the SHA-256 over the most examples prepared so far."""
    rows = []
    for folder in sorted(cache_root().glob("*/*/*")):
        shards = list(folder.glob("shard-*.arrow"))
        if not shards:
            continue
        noted = noted_fingerprints(folder)
        count = max(noted, default=None)
        rows.append(
            {
                "task": folder.parent.parent.name,
                "variant": folder.parent.name,
                "split": folder.name,
                "examples": count,
                "bytes": sum(path.stat().st_size for path in shards),
                "sha256": None if count is None else noted[count][:16],
            }
        )
    return rows
