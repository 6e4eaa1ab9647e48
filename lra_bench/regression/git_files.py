"""Files as they were at every commit that changed them, read from the repository without a checkout."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lra_bench.errors import DataError, UsageError
from lra_bench.regression.commits import Repository
from lra_bench.regression.revision import git

SESSION = "session.json"


@dataclass(frozen=True)
class Version:
    """What a commit brought."""

    commit: str
    root: Path
    """Where its files lie, each under its path in the repository."""
    files: list[Path]


def versions(path: Path, repository: Repository, into: Path) -> Iterator[Version]:
    """JSON files that were new or other at each commit, ancestors first, written below `into`.

    Of a measuring session all files are there as soon as one of them changed.

    path: a file or folder, absolute or relative to the repository's folder; it need not be there any more.

    Raises:
        UsageError: no repository, or a path outside it.
        DataError: no commit has such a path.
    """
    top = repository.require()
    name = _inside(path, repository.folder, top)
    # For pathspecs taken as they are, whatever marks they hold.
    listed = git(
        top, "--literal-pathspecs", "log", "--topo-order", "--reverse", "--format=%H", "--", name
    ).split()
    if not listed:
        raise DataError(f"--git {path}: no commit of {top} has it. Name a file or folder that is committed.")
    seen: set[tuple[str, str]] = set()
    with _blobs(top) as read:
        for number, commit in enumerate(listed):
            tree = _tree(top, commit, name)
            fresh = {file for file, blob in tree.items() if (file, blob) not in seen}
            seen |= tree.items()
            sessions = {
                folder for file in fresh for folder in _folders(file) if f"{folder}/{SESSION}" in tree
            }
            needed = [file for file in tree if file in fresh or sessions.intersection(_folders(file))]
            root = into / f"{number}"
            for file in needed:
                target = root / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(read(tree[file]))
            yield Version(commit, root, [root / file for file in needed])


def _inside(path: Path, folder: Path, top: Path) -> str:
    whole = Path(os.path.normpath(folder.resolve() / path))
    try:
        return whole.relative_to(top).as_posix()
    except ValueError:
        raise UsageError(f"--git {path}: not in the repository at {top}.") from None


def _folders(file: str) -> list[str]:
    """The two folders that can make a file part of a session."""
    return [folder.as_posix() for folder in PurePosixPath(file).parents][:2]


def _tree(top: Path, commit: str, name: str) -> dict[str, str]:
    """Blobs of JSON files by path."""
    # ls-tree takes paths, not patterns.
    entries = git(top, "ls-tree", "-r", "-z", "--full-tree", commit, "--", name).split("\0")
    split = (entry.partition("\t") for entry in entries if entry)
    return {file: head.split()[2] for head, _, file in split if file.endswith(".json")}


@contextmanager
def _blobs(top: Path) -> Iterator[Callable[[str], bytes]]:
    """A function from a blob's id to its bytes; one process for all."""
    command = ["git", "-C", str(top), "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        source, answers = process.stdin, process.stdout

        def read(blob: str) -> bytes:
            source.write(f"{blob}\n".encode())
            source.flush()
            size = int(answers.readline().split()[2])
            return answers.read(size + 1)[:-1]

        yield read
        source.close()
