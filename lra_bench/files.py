"""Writing files so that a final name never holds half a file.

Everything is written under a temporary name in the same folder, flushed to the disk and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

from lra_bench.errors import StorageError

TEMPORARY_SUFFIX = ".tmp"

_STORAGE_ERRORS = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EEXIST", "EFBIG", "EIO", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")
    if hasattr(errno, name)
}
_NO_ROOM = {getattr(errno, name) for name in ("EDQUOT", "ENOSPC", "EROFS") if hasattr(errno, name)}


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path`; what was written there gets the final name at the end.

    If the body fails, the temporary file is removed and `path` stays as it was. Missing parent
    folders are made. Of several writers at once, the last to finish wins, whole.

    Raises:
        StorageError: the disk is full or the folder can't be written; the message names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:12]}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        if error.errno not in _STORAGE_ERRORS:
            raise
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_atomically(path: Path | str, content: bytes | str) -> None:
    """Writes `content` (text as UTF-8, line ends as given) to `path`, whole or not at all.

    Raises:
        StorageError: the disk is full or the folder can't be written; the message names `path`.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def unwritable(path: Path | str, error: OSError) -> StorageError:
    """What a user is told of a file that can't be written."""
    return StorageError(
        f"Cannot write {path}: {error.strerror or error}. "
        "Free some space, or choose a folder that can be written."
    )


def is_no_room(error: BaseException) -> TypeGuard[OSError]:
    """True where the system refused to write for want of room, whoever asked it to."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def _flush(path: Path) -> None:
    """Asks the system to bring a file, or the names in a folder, onto the disk."""
    if path.is_dir() and os.name == "nt":  # folders can't be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems
            raise
    finally:
        os.close(descriptor)
