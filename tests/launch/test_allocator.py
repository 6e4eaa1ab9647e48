"""Freed memory stays with the process: the next step takes no new pages."""

import os
import subprocess
import sys

import pytest

from lra_bench.launch.allocator import KEEP_FREED, allocator_environment

FAULTS = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def step():
    blocks = [libc.malloc(20 * 2**20) for _ in range(5)]
    for block in blocks:
        libc.memset(block, 1, 20 * 2**20)
    for block in reversed(blocks):
        libc.free(block)
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**clean, **environment}, capture_output=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")
def test_a_step_that_frees_its_memory_takes_no_new_pages():
    pages = 20 * 2**20 // 4096
    assert faults({}) > 5 * pages, "by default every step pays for its pages"
    assert faults(allocator_environment()) < 100


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "LD_PRELOAD", "GLIBC_TUNABLES"])
def test_the_users_own_choice_stands(name, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert allocator_environment() == KEEP_FREED
    monkeypatch.setenv(name, "anything")
    assert allocator_environment() == {}
