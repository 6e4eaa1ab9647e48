"""Another revision of a project, installed beside this one, to be imported in its place."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lra_bench.data.cache import cache_root
from lra_bench.errors import UsageError
from lra_bench.locks import held

DONE = ".complete"


def resolve_commit(ref: str, repository: Path) -> str:
    """The full id of a commit.

    Raises:
        UsageError: no repository, or no such revision in it.
    """
    try:
        return _git(
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
        commit = _git(repository, "rev-parse", "HEAD").strip()[:12]
        changes = _git(repository, "status", "--porcelain", "--untracked-files=no").strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"
    return f"{commit} with changes" if changes else commit


def install_revision(commit: str, repository: Path, cache: Path) -> Path:
    """The folder to import the project from as it was at a commit; built once, kept in `cache`.

    The project is the one in `repository`, which may be a folder within a larger one. It alone is installed,
    by pip as its own build says: what it depends on is what is installed already, the same for both.

    Raises:
        UsageError: the build failed; the message has its last lines.
    """
    within = _git(repository, "rev-parse", "--show-prefix").strip().rstrip("/")
    name = commit if not within else f"{commit}-{hashlib.sha256(within.encode()).hexdigest()[:8]}"
    target = cache / "revisions" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(target.parent / f"{name}.lock", lambda: None):
        if (target / DONE).exists():
            return target
        with _worktree(commit, repository) as source:
            project = source / within
            if not project.is_dir():
                raise UsageError(
                    f"--baseline: {commit[:12]} has no folder {within}: nothing to compare with."
                )
            failures = []
            for isolation in _ways_to_build(project):
                shutil.rmtree(target, ignore_errors=True)
                failure = _install(project, target, isolation)
                if failure is None:
                    (target / DONE).touch()
                    return target
                failures.append(f"pip install {' '.join(isolation)}".strip() + f":\n{failure}")
    reasons = "\n".join(failures)
    raise UsageError(f"--baseline: {commit[:12]} cannot be installed with pip.\n{reasons}")


def _ways_to_build(project: Path) -> list[list[str]]:
    """Options of pip: with the build tools that are here, which need not be fetched, or else in isolation.

    What is here may be too old for the project, or not what it asks for: pip checks that first.
    """
    declared = (project / "pyproject.toml").exists()
    return [["--no-build-isolation", *(["--check-build-dependencies"] if declared else [])], []]


def _install(project: Path, target: Path, options: list[str]) -> str | None:
    """The last lines of what pip says, if it fails; its reason stands above its advice."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    done = subprocess.run(
        [*command, *options, str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return "\n".join(lines[-12:]) if done.returncode else None


@contextlib.contextmanager
def _worktree(commit: str, repository: Path) -> Iterator[Path]:
    """The files of a commit, for as long as they are needed; the repository's own files are left alone."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "source"
        _git(repository, "worktree", "add", "--detach", "--quiet", str(place), commit)
        try:
            yield place
        finally:
            _git(repository, "worktree", "remove", "--force", str(place))


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """`python -m lra_bench.regression.revision COMMIT REPOSITORY`: installs it for checks to come."""
    ref, repository = sys.argv[1], Path(sys.argv[2])
    try:
        print(install_revision(resolve_commit(ref, repository), repository, cache_root()))
    except UsageError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
