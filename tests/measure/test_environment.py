"""What is said of machine and source."""

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from lra_bench.measure import machine
from lra_bench.measure.environment import (
    describe_environment,
    describe_provenance,
    device_slug,
    source_commit,
)
from lra_bench.measure.machine import available_cores, even_gib, memory_limit_bytes, slug_of

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.10GHz", "intel-xeon"),
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", "intel-core-i7-8700k"),
        ("AMD EPYC 7763 64-Core Processor", "amd-epyc-7763"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("Apple M2 Pro", "apple-m2-pro"),
        ("../..", "unknown"),
    ],
)
def test_slug_of_a_name(name, slug):
    assert slug_of(name) == slug


@pytest.mark.parametrize(("reported", "gib"), [(79.2, 80), (39.4, 40), (14.6, 16), (23.5, 24), (80.0, 80)])
def test_device_memory_in_even_gib(reported, gib):
    assert even_gib(int(reported * GIB)) == gib


def test_slug_of_the_cpu_names_model_cores_and_memory(monkeypatch):
    monkeypatch.setattr(machine, "cpu_model", lambda: "Intel(R) Xeon(R) Processor")
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    monkeypatch.setattr(machine, "memory_limit_bytes", lambda: int(23.4 * GIB))
    assert device_slug("cpu") == "cpu-intel-xeon-2c-23g"
    monkeypatch.setattr(machine, "memory_limit_bytes", lambda: None)
    assert device_slug("cpu") == "cpu-intel-xeon-2c"


def test_slug_of_cuda_names_count_and_memory(monkeypatch):
    monkeypatch.setattr(
        machine, "cuda_identity", lambda device: ("NVIDIA H100 80GB HBM3", 2, int(79.2 * GIB))
    )
    assert device_slug("cuda:0") == "nvidia-h100-80gb-hbm3-2x80g"


def test_slug_of_this_machine_is_safe_as_a_folder():
    assert re.fullmatch(r"cpu-[a-z0-9]+(-[a-z0-9]+)*", device_slug("cpu"))


def test_environment_is_json_and_complete():
    described = describe_environment("cpu", threads=3)
    assert json.loads(json.dumps(described)) == described
    assert described["device"]["slug"] == device_slug("cpu")
    assert described["threads"] == 3
    assert described["cpu"]["cores_available"] == available_cores()
    assert set(described["versions"]) == {"torch", "numpy", "numba", "datasets", "lra_bench"}
    assert described["versions"]["torch"].startswith("2.")
    assert described["ram_bytes"] >= memory_limit_bytes() > 2**28


def test_the_host_is_not_named():
    host = socket.gethostname()
    if len(host) < 4:
        pytest.skip("this host's name is too short to look for")
    assert host not in json.dumps({**describe_environment("cpu"), "os": None})


def test_the_smaller_of_memory_and_control_group_counts(monkeypatch):
    files = {"/sys/fs/cgroup/memory.max": "1073741824"}
    monkeypatch.setattr(machine, "_read", files.get)
    monkeypatch.setattr(machine, "ram_bytes", lambda: 8 * GIB)
    assert memory_limit_bytes() == GIB
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert memory_limit_bytes() == 8 * GIB


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_commit_clean_dirty_and_none(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert source_commit(package) == (None, None)
    git(tmp_path, "init")
    assert source_commit(package) == (None, None)  # in someone's repository, but not part of it
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit, dirty = source_commit(package)
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    assert dirty is False
    (tmp_path / "results.json").write_text("{}")
    assert source_commit(package) == (commit, False)  # untracked
    (package / "__init__.py").write_text("changed = True\n")
    assert source_commit(package) == (commit, True)


def test_provenance_quotes_the_command():
    described = describe_provenance(["lra-bench", "run", "--set", "model.name=a b"])
    assert described["command"] == "lra-bench run --set 'model.name=a b'"
    assert describe_provenance("as typed")["command"] == "as typed"
    assert json.loads(json.dumps(described)) == described


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc/stat")
def test_busy_cores_reads_the_ticks_of_our_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores of which one was busy for half of the time: by hand from two readings."""
    readings = iter(
        [
            "cpu  0 0 0 0\ncpu0 100 0 0 100 0 0 0 0 0 0\ncpu1 50 0 50 300 0 0 0 0 0 0\n",
            "cpu  0 0 0 0\ncpu0 110 5 5 120 0 0 0 0 9 9\ncpu1 50 0 50 330 10 0 0 0 0 0\n",
        ]
    )
    monkeypatch.setattr(machine, "_read", lambda path: next(readings))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    assert machine.busy_cores(0.0) == pytest.approx(20 / 40)
    monkeypatch.setattr(machine, "_read", lambda path: None)
    assert machine.busy_cores(0.0) is None


def test_free_memory_is_the_least_that_machine_and_control_group_leave(monkeypatch):
    files = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    2000 kB\nSwapFree: 5 kB\n"}
    monkeypatch.setattr(machine, "_read", files.get)
    assert machine.available_bytes() == 2000 * 1024
    group = "/sys/fs/cgroup/memory"
    files |= {f"{group}.max": "1000000", f"{group}.current": "700000"}
    assert machine.available_bytes() == 300_000
    files[f"{group}.stat"] = "anon 5\ninactive_file 100000\n"
    assert machine.available_bytes() == 400_000, "file pages are given back"
    files[f"{group}.max"] = "max"
    assert machine.available_bytes() == 2000 * 1024
    files.clear()
    assert machine.available_bytes() is None
