"""Who works on a cell: a lease on a file beside its record, over any number of processes and machines.

A claim is `.<run-id>.claim` in the record's folder. It is made by a hard link, which the file system lets
only one process make, also over NFS. Its owner touches it; one that was not touched for its lease is
anybody's, and so is one whose process is gone, where that can be known. Ages are told by the clock of the
file system alone, because those of machines differ.

Taking over an expired claim is a rename, of which only one can succeed. A taker who was slow may have
moved a fresh claim away; it sees that and puts it back, and an owner who still lost its claim finds out
when it renews. Two may then have worked on one cell for a while: the lock in the worker keeps them from
writing at the same time, and both would write the same record.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from lra_bench.files import TEMPORARY_SUFFIX, unwritable

LEASE_S = 120.0
"""Longer than network file systems keep a file's age in memory (60 s by default)."""
RENEWALS_PER_LEASE = 4
SETTLE_S = 0.1
"""After taking over: time for another taker to put back what it moved away by mistake."""
_CLOCK = "clock"
_NO_LINKS = {getattr(errno, name) for name in ("EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK")}


@dataclass(frozen=True)
class Owner:
    """Who holds a claim."""

    host: str
    """Of a machine since its start, and of a container in it: where a process number means something."""
    pid: int
    started: str
    """When the process began, as the system counts, so that a reused number is not taken for it."""
    token: str
    """Of this claim alone."""
    lease_s: float

    @property
    def is_gone(self) -> bool:
        """The process has ended; False where that can't be known."""
        if self.host != host_identity():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return process_start(self.pid) != self.started


def claim_path(record: Path) -> Path:
    """Where the claim of a cell lies, given where its record does."""
    return record.with_name(f".{record.stem}.claim")


class Claim:
    """A claim that this process holds; `Claim.take` makes one. As a context it is renewed, then given up."""

    def __init__(self, path: Path, lease_s: float) -> None:
        self.path = path
        self.owner = Owner(
            host_identity(), os.getpid(), process_start(os.getpid()), uuid.uuid4().hex, lease_s
        )
        self.lost = threading.Event()
        """Somebody has taken it over: this process was silent for too long."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"claim {path.name}", daemon=True)

    @classmethod
    def take(cls, record: Path, lease_s: float = LEASE_S) -> Claim | None:
        """The claim of the cell whose record lies there, or None if somebody else holds it.

        Raises:
            StorageError: the folder can't be written.
        """
        claim = cls(claim_path(record), lease_s)
        try:
            claim.path.parent.mkdir(parents=True, exist_ok=True)
            taken = claim._create() or claim._take_over()
        except OSError as error:
            raise unwritable(claim.path, error) from error
        return claim if taken else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.release()

    def release(self) -> None:
        """Gives the claim up, if it is still ours."""
        with contextlib.suppress(OSError):
            if self._is_ours():
                self.path.unlink()

    def renew(self) -> None:
        """Touches the claim; sets `lost` if it is somebody else's by now."""
        try:
            if self._is_ours():
                os.utime(self.path)
            elif not self._create():
                # Gone for a moment is a taker that was mistaken; somebody else's is somebody else's.
                found = _read(self.path)
                if found is not None and found.owner != self.owner:
                    self.lost.set()
        except OSError:
            pass  # A disk that is full, or a server that is away: the next time will tell.

    def _keep(self) -> None:
        while not self._ended.wait(self.owner.lease_s / RENEWALS_PER_LEASE) and not self.lost.is_set():
            self.renew()

    def _is_ours(self) -> bool:
        found = _read(self.path)
        return found is not None and found.owner == self.owner

    def _create(self) -> bool:
        """Makes the claim where there is none."""
        content = json.dumps(asdict(self.owner)).encode()
        draft = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY_SUFFIX}")
        try:
            draft.write_bytes(content)
            try:
                os.link(draft, self.path)
            except FileExistsError:
                # Over NFS a link may be made and its confirmation lost.
                return draft.stat().st_nlink == 2
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return _create_without_links(self.path, content)
            return True
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()

    def _take_over(self) -> bool:
        """Takes a claim that has expired, if nobody else is quicker."""
        found = _read(self.path)
        if found is None:
            return self._create()
        if not found.is_expired:
            return False
        aside = self.path.with_name(f"{self.path.name}.{self.owner.token[:12]}{TEMPORARY_SUFFIX}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return False  # somebody was quicker
        try:
            moved = _read(aside)
            if moved is not None and moved.owner != found.owner:  # a fresh one, made since we looked
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
                return False
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
        if not self._create():
            return False
        time.sleep(SETTLE_S)
        return self._is_ours()


def is_held(record: Path) -> bool:
    """Whether somebody holds the claim of a cell; nothing is changed by looking.

    Raises:
        StorageError: the folder can't be written, so the file system's clock can't be asked.
    """
    path = claim_path(record)
    try:
        found = _read(path)
    except OSError as error:
        raise unwritable(path, error) from error
    return found is not None and not found.is_expired


@dataclass(frozen=True)
class _Found:
    """A claim file as it was read."""

    folder: Path
    owner: Owner | None
    """None where its content can't be read."""
    touched: float

    @property
    def is_expired(self) -> bool:
        """Whether the claim is anybody's."""
        if self.owner is not None and self.owner.is_gone:
            return True
        lease_s = LEASE_S if self.owner is None else self.owner.lease_s
        return _file_system_time(self.folder) - self.touched > lease_s


def remove_leftovers(record: Path, older_than_s: float = LEASE_S) -> None:
    """Temporary files beside a cell's record, left by processes that were killed while writing."""
    with contextlib.suppress(OSError):
        now = _file_system_time(record.parent)
        for name in (record.stem, _CLOCK):
            for leftover in record.parent.glob(f".{name}.*{TEMPORARY_SUFFIX}"):
                if now - leftover.stat().st_mtime > older_than_s:
                    leftover.unlink(missing_ok=True)


def _read(path: Path) -> _Found | None:
    """None where there is no claim."""
    try:
        with path.open("rb") as file:  # Opening makes a network file system ask its server.
            content, touched = file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    try:
        owner = Owner(**json.loads(content))
    except (ValueError, TypeError):
        owner = None
    return _Found(path.parent, owner, touched)


def _file_system_time(folder: Path) -> float:
    """Now, by the clock that dates this folder's files."""
    probe = folder / f".{_CLOCK}.{uuid.uuid4().hex[:12]}{TEMPORARY_SUFFIX}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _create_without_links(path: Path, content: bytes) -> bool:
    """For file systems that have no hard links; for a moment such a claim is there and has no content."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return True


@functools.cache
def host_identity() -> str:
    """Tells apart machines, their starts, and containers whose processes are numbered on their own."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def process_start(pid: int) -> str:
    """When a process began, in the system's own count; empty where it does not tell, or has ended."""
    try:
        # The name, in brackets, may hold anything; the start is the 20th field after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""
