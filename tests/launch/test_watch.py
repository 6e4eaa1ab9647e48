"""A child's time limit, without what it waits for."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from lra_bench.device_turns import RESUMED, WAITING
from lra_bench.launch.watch import Watch

LIMIT_S = 0.5


@pytest.mark.parametrize("waiting", [WAITING, {"event": "phase", "phase": "wait"}])
def test_waiting_for_others_is_not_the_cells_time(waiting: dict[str, str]) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child,
        Watch(child, lambda: False, LIMIT_S) as watch,
    ):
        watch.note(waiting)
        time.sleep(3 * LIMIT_S)
        assert not watch.timed_out
        watch.note(RESUMED)
        child.wait(60)
        assert watch.timed_out
