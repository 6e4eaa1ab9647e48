"""The order of commits: the repository's, and by date for those it does not know."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lra_bench.errors import UsageError
from lra_bench.regression.revision import git

SHORT = 8
DIRTY = "+"
"""After a commit's id: with changes that are in no commit."""


@dataclass(frozen=True)
class Commit:
    """A state of the source that something was measured at."""

    id: str
    """In full where the repository knows it. With `DIRTY` at its end it is the commit with changes."""
    date: datetime | None
    """When it was committed; of what the repository does not know, when it was first measured."""
    known: bool

    @property
    def label(self) -> str:
        """What a person reads and git understands, but for the mark of changes."""
        return short(self.id)


def short(identity: str) -> str:
    """'0123456789abcdef+' -> '01234567+'; what is no commit's id stays whole."""
    bare = identity.removesuffix(DIRTY)
    if any(character not in "0123456789abcdef" for character in bare):
        return identity
    return bare[:SHORT] + identity[len(bare) :]


class Repository:
    """What a repository says about commits. Where there is none it knows no commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.top: Path | None = Path(git(folder, "rev-parse", "--show-toplevel").strip())
        except (subprocess.CalledProcessError, FileNotFoundError):
            self.top = None

    def require(self) -> Path:
        """The top folder. Raises UsageError where there is no repository."""
        if self.top is None:
            raise UsageError(
                f"--git: {self.folder} lies in no git repository, or git is missing. "
                "Name a repository with --repository."
            )
        return self.top

    @property
    def shallow(self) -> bool:
        return (
            self.top is not None and git(self.top, "rev-parse", "--is-shallow-repository").strip() == "true"
        )

    def resolve(self, names: Iterable[str]) -> dict[str, str]:
        """Full ids of those names that are commits here."""
        asked = list(dict.fromkeys(names))
        if self.top is None or not asked:
            return {}
        # A name with a blank or line end would be read as something else; no id has one.
        asked = [name for name in asked if name.isalnum()]
        lines = "".join(f"{name}^{{commit}}\n" for name in asked)
        answers = git(self.top, "cat-file", "--batch-check", stdin=lines).splitlines()
        found = (answer.split() for answer in answers)
        return {
            name: parts[0]
            for name, parts in zip(asked, found, strict=True)
            if len(parts) == 3 and parts[1] == "commit"
        }

    def ordered(self, commits: Iterable[str]) -> dict[str, datetime]:
        """These known commits, ancestors first, with their dates."""
        wanted = set(commits)
        if self.top is None or not wanted:
            return {}
        lines = "".join(f"{commit}\n" for commit in sorted(wanted))
        listed = git(
            self.top, "rev-list", "--topo-order", "--reverse", "--timestamp", "--stdin", stdin=lines
        ).splitlines()
        pairs = (line.split() for line in listed)
        return {
            commit: datetime.fromtimestamp(int(stamp), UTC) for stamp, commit in pairs if commit in wanted
        }


def order_commits(seen: Mapping[str, datetime | None], repository: Repository) -> list[Commit]:
    """All states in order.

    A commit with changes comes right after the commit. What the repository does not know comes after the
    last commit of at most its own date; without a date, at the end.

    seen: ids, full where the repository knows them, with the date of their first measurement.
    """
    bare = {identity: identity.removesuffix(DIRTY) for identity in seen}
    known = repository.ordered(repository.resolve(bare.values()).values())
    placed = [
        Commit(identity, date, True)
        for commit, date in known.items()
        for identity in (commit, commit + DIRTY)
        if identity in seen
    ]
    strangers = [Commit(one, date, False) for one, date in seen.items() if bare[one] not in known]
    undated = [one for one in strangers if one.date is None]
    for one in sorted((one for one in strangers if one.date), key=lambda one: (one.date, one.id)):
        before = [place for place, other in enumerate(placed) if other.date and other.date <= one.date]  # type: ignore[operator]
        placed.insert(before[-1] + 1 if before else 0, one)
    return placed + undated
