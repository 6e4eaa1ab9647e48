"""Another revision of a project, installed beside this one, to be imported in its place."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lra_bench.errors import UsageError
from lra_bench.locks import held

DONE = ".complete"


def resolve_commit(ref: str, repository: Path) -> str:
    """The full id of a commit.

    Raises:
        UsageError: no repository, or no such revision in it.
    """
    try:
        return git(
            repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
        ).strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        raise UsageError(
            f"--baseline {ref}: neither a file nor a revision of the repository at {repository}. "
            "Name a commit, branch or tag (a shallow clone may lack it: `git fetch --depth=1 origin REF`), "
            "or a file that --write-baseline has written."
        ) from None


def current_revision(repository: Path) -> str:
    """The commit of the working tree, and whether it has changes; `unknown` outside a repository."""
    try:
        commit = git(repository, "rev-parse", "HEAD").strip()[:12]
        changes = git(repository, "status", "--porcelain", "--untracked-files=no").strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"
    return f"{commit} with changes" if changes else commit


def install_revision(commit: str, repository: Path, cache: Path) -> Path:
    """The folder to import the project from as it was at a commit; built once, kept in `cache`.

    Only the project itself is installed there, by pip as its own build says: what it depends on is what is
    installed already, the same for both revisions.

    Raises:
        UsageError: the build failed; the message has its last lines.
    """
    target = cache / "revisions" / commit
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(target.parent / f"{commit}.lock", lambda: None):
        if (target / DONE).exists():
            return target
        shutil.rmtree(target, ignore_errors=True)
        with _worktree(commit, repository) as source:
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--target",
                str(target),
            ]
            if importlib.util.find_spec("setuptools") is not None and _builds_with_setuptools(source):
                command.append("--no-build-isolation")  # what is there need not be fetched
            done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
            if done.returncode:
                last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
                raise UsageError(f"--baseline: {commit[:12]} cannot be installed with pip:\n{last}")
        (target / DONE).touch()
    return target


def _builds_with_setuptools(source: Path) -> bool:
    file = source / "pyproject.toml"
    return not file.exists() or "setuptools.build_meta" in file.read_text("utf-8")


@contextlib.contextmanager
def _worktree(commit: str, repository: Path) -> Iterator[Path]:
    """The files of a commit, for as long as they are needed; the repository's own files are left alone."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "source"
        git(repository, "worktree", "add", "--detach", "--quiet", str(place), commit)
        try:
            yield place
        finally:
            git(repository, "worktree", "remove", "--force", str(place))


def git(repository: Path, *arguments: str, stdin: str | None = None) -> str:
    """What git says about a repository. Raises CalledProcessError, or FileNotFoundError without git."""
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, input=stdin).stdout
