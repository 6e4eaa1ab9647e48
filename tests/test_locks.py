"""One holder at a time, across processes, and none after its end."""

import subprocess
import sys
import threading

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


def test_who_waited_for_a_removed_file_waits_for_the_next_holder(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        others = []

        def on_wait():
            path.unlink()  # what the first does at its end
            other = subprocess.Popen(command, **pipes)
            others.append(other)
            assert other.stdout.readline() == "held\n"
            first.kill()
            threading.Timer(0.5, other.kill).start()

        with held(path, on_wait):
            assert len(others) == 1
            assert others[0].wait(timeout=0.1) != 0, "two have the lock"
        others[0].stdout.close()
        others[0].stdin.close()
