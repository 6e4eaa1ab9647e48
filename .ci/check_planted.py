"""Plants forbidden imports in a copy of the installed package; the import rules must catch each."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VIOLATIONS = {
    "mixer.py": "import lra_bench.models.exact.transformer",
    "data/task.py": "import lra_bench.train",
    "models/exact/transformer.py": "import lra_bench.records",
    "tasks/listops.py": "import lra_bench.models.exact.transformer",
}


def main() -> int:
    spec = importlib.util.find_spec("lra_bench")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(spec.submodule_search_locations[0])
    missed = []
    for name, line in VIOLATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "lra_bench"
            shutil.copytree(package, copy)
            with (copy / name).open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")
            done = subprocess.run(
                [shutil.which("lint-imports") or "lint-imports", "--config", sys.argv[1], "--no-cache"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": folder},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0 or "BROKEN" not in done.stdout:
                missed.append(name)
    print(f"Planted {len(VIOLATIONS)} forbidden imports, caught {len(VIOLATIONS) - len(missed)}")
    if missed:
        print("Not caught in: " + ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
