"""One holder at a time, across processes, and none after its end."""

import subprocess
import sys

from lra_bench.locks import held

HOLD = """
import sys, pathlib
from lra_bench.locks import held
with held(pathlib.Path(sys.argv[1]), lambda: None):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_the_second_waits_until_the_first_is_gone(tmp_path):
    path = tmp_path / "below" / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        waited = []

        def on_wait():
            waited.append(True)
            first.kill()  # the lock ends with the process, however it ends

        with held(path, on_wait):
            assert waited == [True]
    assert not path.exists()


def test_a_free_lock_is_taken_at_once(tmp_path):
    waited = []
    for _ in range(2):
        with held(tmp_path / "lock", lambda: waited.append(True)):
            pass
    assert waited == []
