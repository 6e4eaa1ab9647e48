"""Who uses a device: those that measure time, each alone; all others together, and they make way.

A device has two lock files on its machine, in a folder of the user. Whoever only uses it holds the *lock*
together with others. Whoever measures time takes the *turnstile* first, which asks the others to give the
lock back, and then the lock alone. Those who gave it back wait at the turnstile until it is free again.

The locks are flock's: they end with the process that holds them, however it ends. Devices don't know of
one another, and neither do machines, nor containers with temporary folders of their own.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from lra_bench.errors import DataError, LraBenchError

try:
    import fcntl
except ImportError:
    CAN_LOCK = False  # Windows: nothing is held.
else:
    CAN_LOCK = True

FOLDER_VARIABLE = "LRA_BENCH_LOCKS"
"""Where the lock files are, instead of a folder of the user in the system's temporary one."""
HELD_VARIABLE = "LRA_BENCH_DEVICES_HELD"
"""Set while a process has devices alone, for the processes that it starts: they are part of it."""
SHORTEST_POLL_S, LONGEST_POLL_S = 0.001, 0.05
"""Between two looks of who waits: rare enough to disturb no measurement."""


class GaveUpError(LraBenchError):
    """Asked to stop while waiting for a device."""

    exit_code = 130


def lock_folder() -> Path:
    """Where this user's locks are on this machine."""
    given = os.environ.get(FOLDER_VARIABLE)
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(given) if given else Path(tempfile.gettempdir()) / f"lra-bench-{user}"


def lock_name(device: str) -> str:
    """'cpu', or 'cuda-<uuid>': the number of a CUDA device depends on what a process may see."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return kind
    import torch

    number = int(index) if index else torch.cuda.current_device()
    return f"cuda-{torch.cuda.get_device_properties(number).uuid}"


@contextlib.contextmanager
def exclusive(
    *devices: str, on_wait: Callable[[], None] = lambda: None, give_up: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Has the devices alone: waits until all others have made way, and they wait until this ends.

    Within a process that has them already, or one that such a process has started, nothing is taken.

    Args:
        on_wait: called once if it has to wait.
        give_up: asked while it waits.

    Raises:
        GaveUpError: `give_up` said so. DataError: the folder of the locks can't be written.
    """
    names = _names(devices)
    before = os.environ.get(HELD_VARIABLE)
    wait = _Wait(on_wait, give_up)
    with contextlib.ExitStack() as stack:
        for name in names:
            one = stack.enter_context(_Files(name))
            _take(one.turnstile, alone=True, wait=wait)
            _take(one.lock, alone=True, wait=wait)
        os.environ[HELD_VARIABLE] = ",".join([*(before.split(",") if before else []), *names])
        try:
            yield
        finally:
            if before is None:
                del os.environ[HELD_VARIABLE]
            else:
                os.environ[HELD_VARIABLE] = before


@contextlib.contextmanager
def shared(
    *devices: str,
    on_wait: Callable[[], None] = lambda: None,
    give_up: Callable[[], bool] = lambda: False,
    settle: Callable[[], None] = lambda: None,
) -> Iterator[Shared]:
    """Uses the devices beside others; `pause_if_asked` is to be called often. Arguments as for `exclusive`.

    settle: called before they are given back; has to wait for what they still do.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_Files(name)) for name in _names(devices)]
        one = Shared(files, on_wait, give_up, settle)
        one.take()
        yield one
        settle()


class Shared:
    """Devices that are used beside others."""

    def __init__(
        self,
        files: Sequence[_Files],
        on_wait: Callable[[], None],
        give_up: Callable[[], bool],
        settle: Callable[[], None],
    ) -> None:
        self._files = files
        self._on_wait = on_wait
        self._give_up = give_up
        self._settle = settle

    def asked(self) -> bool:
        """Whether somebody wants one of them alone. Costs two system calls a device."""
        for one in self._files:
            try:
                fcntl.flock(one.turnstile, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            fcntl.flock(one.turnstile, fcntl.LOCK_UN)
        return False

    def pause_if_asked(self) -> float:
        """Makes way for whoever wants a device alone; returns the seconds that took, usually 0.

        Where `give_up` ends the wait nothing is held afterwards: the caller is about to stop.
        """
        if not self.asked():
            return 0.0
        self._settle()
        start = time.monotonic()
        self._give_back()
        try:
            self.take()
        except GaveUpError:
            self._give_back()
        return time.monotonic() - start

    def take(self) -> None:
        """Raises GaveUpError: `give_up` said so while others had them alone."""
        wait = _Wait(self._on_wait, self._give_up)
        # All processes take devices in one order, so that no two wait for each other.
        for one in self._files:
            _take(one.turnstile, alone=False, wait=wait)
            # At once: who has the lock alone has the turnstile too.
            _take(one.lock, alone=False, wait=wait)
            fcntl.flock(one.turnstile, fcntl.LOCK_UN)

    def _give_back(self) -> None:
        for one in self._files:
            fcntl.flock(one.lock, fcntl.LOCK_UN)


class _Files:
    """The two lock files of a device, open. They stay when all is done: removing them would race."""

    def __init__(self, name: str) -> None:
        folder = lock_folder()
        self._opened: list[IO[bytes]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for kind in ("turnstile", "lock"):
                self._opened.append((folder / f"{name}.{kind}").open("ab"))
        except OSError as error:
            raise DataError(
                f"The folder of device locks {folder} cannot be written ({error.strerror}). "
                f"Choose another with {FOLDER_VARIABLE}."
            ) from error
        self.turnstile, self.lock = self._opened

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        # The lock first: who passes the turnstile relies on it.
        for file in reversed(self._opened):
            file.close()


class _Wait:
    """One step of waiting, longer every time."""

    def __init__(self, on_wait: Callable[[], None], give_up: Callable[[], bool]) -> None:
        self._on_wait = on_wait
        self._give_up = give_up
        self._seconds = SHORTEST_POLL_S
        self._told = False

    def __call__(self) -> None:
        if not self._told:
            self._told = True
            self._on_wait()
        if self._give_up():
            raise GaveUpError("Stopped while waiting for the device; what was done before is kept.")
        time.sleep(self._seconds)
        self._seconds = min(2 * self._seconds, LONGEST_POLL_S)


def _take(file: IO[bytes], *, alone: bool, wait: Callable[[], None]) -> None:
    """By looking now and then: blocked in the system's call, a process would not hear that it is to stop."""
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            wait()


def _names(devices: Sequence[str]) -> list[str]:
    """Of the locks to take, in the order that all processes keep; none that this process tree has alone."""
    if not CAN_LOCK:
        return []
    held = os.environ.get(HELD_VARIABLE, "").split(",")
    return sorted({lock_name(device) for device in devices} - set(held))
