"""What a child process must know to import what this one can: a module beside a script, or of a notebook."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import sysconfig

_OURS = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))


def import_environment() -> dict[str, str]:
    """PYTHONPATH for a child process, if this one looks in folders that a fresh interpreter would not.

    The working folder is left out: whoever wants it comes to it last, as a checkout of this project would
    hide the installed package otherwise. So is the folder of commands, where `lra-bench` itself lies.
    """
    named = os.environ.get("PYTHONPATH", "")
    ours = [*_fresh_path(named), os.getcwd(), sysconfig.get_path("scripts")]
    known = set(map(os.path.realpath, ours))
    further = [
        one
        for one in sys.path
        if os.path.isdir(one) and os.path.realpath(one) not in known and not _hides_us(one)
    ]
    return {"PYTHONPATH": os.pathsep.join([*filter(None, [named]), *further])} if further else {}


def _hides_us(folder: str) -> bool:
    """Whether a package of our name lies there that is not the one that runs: a checkout, for example."""
    other = os.path.join(folder, "lra_bench")
    return os.path.isdir(other) and os.path.realpath(other) != _OURS


@functools.cache
def _fresh_path(named: str) -> list[str]:
    """Where a fresh interpreter looks, given a PYTHONPATH."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"],
        env={**os.environ, "PYTHONPATH": named},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
