"""Claims on cells, held and fought for by real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lra_bench.launch import claims
from lra_bench.launch.claims import Claim, claim_path, is_held, process_start

TAKER = """
import os, sys, time
from pathlib import Path
from lra_bench.launch.claims import Claim
record, start = Path(sys.argv[1]), float(sys.argv[2])
print("ready", flush=True)
while time.time() < start:
    pass
claim = Claim.take(record)
print("taken" if claim else "refused", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "cell.json"


def start_taker(record: Path, start: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", TAKER, str(record), str(start)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def takers(record: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Three processes that take an expired claim, of a machine unknown, at the same moment."""
    write_claim(record, host="another", age_s=500)
    start = time.time() + 3
    processes = [start_taker(record, start) for _ in range(3)]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def write_claim(record: Path, *, host: str, age_s: float, pid: int = 1) -> Path:
    path = claim_path(record)
    owner = {"host": host, "pid": pid, "started": "0", "token": "other", "lease_s": 120.0}
    path.write_text(json.dumps(owner))
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path


def test_one_of_several_takers_wins_and_its_death_frees_the_cell(
    takers: list[subprocess.Popen[str]], record: Path
) -> None:
    assert {line(one) for one in takers} == {"ready"}
    answers = [line(one) for one in takers]
    assert sorted(answers) == ["refused", "refused", "taken"]
    assert is_held(record)
    assert Claim.take(record) is None

    winner = takers[answers.index("taken")]
    os.kill(winner.pid, signal.SIGKILL)
    os.waitid(os.P_PID, winner.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on: gone all the same
    assert not is_held(record), "no need to wait for the lease of a process that is gone"
    claim = Claim.take(record)
    assert claim is not None
    claim.release()
    assert list(claim.path.parent.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(("age_s", "free"), [(500, True), (60, False)])
def test_of_another_machine_only_the_age_tells(record: Path, age_s: float, free: bool) -> None:
    write_claim(record, host="another", age_s=age_s)
    assert is_held(record) is not free
    assert (Claim.take(record) is not None) is free


def test_a_process_number_that_was_used_again_is_another_process(record: Path) -> None:
    write_claim(record, host=claims.host_identity(), age_s=0, pid=os.getpid())
    assert process_start(os.getpid()) not in {"", "0"}
    assert not is_held(record)


def test_ages_are_told_by_the_file_systems_clock(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_claim(record, host="another", age_s=60)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert is_held(record)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert is_held(record)


def test_a_claim_that_cannot_be_read_expires_by_age(record: Path) -> None:
    path = write_claim(record, host="another", age_s=0)
    path.write_text('{"host": "anoth')
    assert Claim.take(record) is None
    os.utime(path, (1.0, 1.0))
    assert Claim.take(record) is not None


def test_it_is_renewed_while_held_and_gone_afterwards(record: Path) -> None:
    claim = Claim.take(record, lease_s=0.2)
    assert claim is not None
    with claim:
        first = claim.path.stat().st_mtime_ns
        time.sleep(0.5)
        assert claim.path.stat().st_mtime_ns > first
        assert is_held(record), "longer than its lease"
        assert not claim.lost.is_set()
    assert not claim.path.exists()


def test_an_owner_that_slept_too_long_finds_out_and_leaves_the_new_claim_alone(record: Path) -> None:
    slept = Claim.take(record)
    assert slept is not None
    os.utime(slept.path, (1.0, 1.0))
    taken = Claim.take(record)
    assert taken is not None, "expired by age, although its process lives"
    slept.renew()
    assert slept.lost.is_set()
    slept.release()
    assert is_held(record)
    taken.renew()
    assert not taken.lost.is_set()


def test_a_slow_taker_puts_back_what_it_moved_by_mistake(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw an expired claim; before its rename, somebody else has taken over."""
    write_claim(record, host="another", age_s=500)
    real, winner = os.rename, []

    def rename(source: Path, target: Path) -> None:
        if not winner:
            winner.append(None)
            winner[0] = Claim.take(record)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert Claim.take(record) is None
    assert winner[0] is not None
    winner[0].renew()
    assert not winner[0].lost.is_set()
    assert is_held(record)


def test_a_file_system_without_links(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    claim = Claim.take(record)
    assert claim is not None
    assert Claim.take(record) is None
    claim.release()
    assert not claim.path.exists()
