"""How processes that measure manage memory on the CPU: what a step frees is kept for the next one.

By default the C library gives the top of its heap back to the system whenever enough of it is free, and
gets it anew, page by page, in the next step; whether a step's last block lies there is a matter of chance.
Step times of equal processes spread by up to 30 % that way, against 10 % with what is set here, and
performer's step at 3,072 tokens took 207 ms instead of 172. Blocks of 32 MiB and more have mappings of their
own in any case. Keeping those too made the explicit matrix almost twice as fast (258 against 478 ms at 2,048
tokens), but the heap grew to several times what is alive in it, so that what fits would no longer fit.
"""

from __future__ import annotations

import os
import sys

KEEP_FREED = {
    "MALLOC_MMAP_THRESHOLD_": str(
        2**25
    ),  # the largest that glibc takes; by default it moves with what is freed
    "MALLOC_TRIM_THRESHOLD_": str(2**40),  # the top of the heap is never given back
}
"""For glibc; read once, when a process starts. Others ignore it."""
_OWN_CHOICES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def allocator_environment() -> dict[str, str]:
    """Variables for a child process; none where the user has chosen an allocator or settings of one."""
    chosen = any(name.startswith(_OWN_CHOICES) for name in os.environ)
    return {} if chosen or not sys.platform.startswith("linux") else dict(KEEP_FREED)
