#!/usr/bin/env bash
# Which commit a check compares with, and under what names that commit's baseline is kept in the cache.
#   ASKED=revision|file|'' PROJECT=folder MODELS=... RULES=file BASE_SHA=... BEFORE=... baseline.sh
# Writes to $GITHUB_OUTPUT: `commit` (empty for a file, and for what can't be found), `head`, and the beginnings of
# two keys, `revision` and `evidence`. All of it is digits and words of the runner, whatever the variables hold.
set -euo pipefail

commit_of() { git rev-parse --verify --quiet --end-of-options "$1^{commit}" || true; }

# A commit of the event; fetched where the checkout is too shallow to have it.
event_commit() {
  [[ "$1" =~ ^[0-9a-f]{40}$ ]] || return 0
  git cat-file -e "$1^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$1" 2>/dev/null || return 0
  commit_of "$1"
}

if [ -n "$ASKED" ]; then
  commit=""
  if [ ! -f "$ASKED" ]; then
    commit=$(commit_of "$ASKED")
    [ -n "$commit" ] || commit=$(commit_of "origin/$ASKED")
  fi
elif [ -n "$BASE_SHA" ]; then
  # What is checked out for a pull request is its merge with the base branch as that is now: the first parent.
  commit=""
  [ "$(commit_of HEAD)" != "$GITHUB_SHA" ] || commit=$(commit_of 'HEAD^1')
  if [ -z "$commit" ]; then
    base=$(event_commit "$BASE_SHA")
    commit=$(git merge-base "${base:-none}" HEAD 2>/dev/null || echo "$base")
  fi
else
  commit=$(event_commit "$BEFORE")
  [ -n "$commit" ] || commit=$(commit_of 'HEAD^1')
fi

digest() { python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'; }
python=$(python -c 'import sys; print("py%d.%d" % sys.version_info[:2])')
project=$(printf '%s' "$PROJECT" | digest)
# Evidence compares under the same harness, torch, models and rules only.
harness=$({
  python -c 'import importlib.metadata as m; print(m.distribution("lra-bench").read_text("RECORD"), m.version("torch"))'
  printf '%s\n' "$MODELS"
  [ ! -f "$RULES" ] || cat "$RULES"
} | digest)
machine="$RUNNER_OS-$RUNNER_ARCH-$python"
{
  echo "commit=$commit"
  echo "head=$(commit_of HEAD)"
  echo "revision=lra-bench-revision-$machine-$project"
  echo "evidence=lra-bench-evidence-$machine-$project-$harness"
} >> "$GITHUB_OUTPUT"
