"""`check`: evidence of a baseline and of what is installed now, and the judgement between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lra_bench import registry
from lra_bench.data.cache import cache_root
from lra_bench.errors import UsageError
from lra_bench.regression.evidence import Evidence, read_evidence
from lra_bench.regression.gathering import gather, learners, probe_server
from lra_bench.regression.judgement import CELL, Finding, Verdict, accepting, judge
from lra_bench.regression.revision import current_revision, install_revision, resolve_commit
from lra_bench.regression.rules import Rules
from lra_bench.regression.timing import (
    TimeVerdict,
    compare_times,
    compare_with_stored,
    measure_for_storing,
)

_OF_TIME: dict[str, Verdict] = {
    "slower": "worse",
    "faster": "better",
    "same": "same",
    "inconclusive": "inconclusive",
    "failed": "failed",
    "not compared": "inconclusive",
}


@dataclass(frozen=True)
class Check:
    """What a check has found."""

    before: Evidence
    after: Evidence
    findings: tuple[Finding, ...]

    @property
    def regressions(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_regression]

    @property
    def uncompared(self) -> list[Finding]:
        """What neither revision can run: a check of it says nothing."""
        return [finding for finding in self.findings if finding.verdict == "not compared"]

    @property
    def inconclusive(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict == "inconclusive"]


def models_of(rules: Rules, asked: Sequence[str] = ()) -> list[str]:
    """Names to check: globs are spelled out, the rest is looked up.

    Raises:
        UsageError: nothing fits, or an unknown name.
    """
    names: list[str] = []
    for pattern in asked or rules.models:
        if any(mark in pattern for mark in "*?["):
            fitting = [entry.name for entry in registry.models.match(pattern) if not entry.is_control]
            if not fitting:
                raise UsageError(
                    f"--models {pattern!r} fits no model; `lra-bench list models` has the names."
                )
            names += fitting
        else:
            registry.models.get(pattern)
            names.append(pattern)
    return list(dict.fromkeys(names))


def current_evidence(
    rules: Rules,
    models: Sequence[str],
    *,
    repository: Path,
    seeds: int,
    timing: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Evidence:
    """Evidence of what is installed, for a file: with step times that can be compared later."""
    with probe_server(threads=rules.threads) as server:
        found = gather(server, rules, models, seeds=seeds, revision=current_revision(repository), say=say)
        times = []
        for model in models if timing else []:
            say(f"{model}: step time")
            times.append(
                measure_for_storing(model, server, rules.time, rules.protocol, say=_telling(model, say))
            )
    return found.model_copy(update={"times": times})


def run_check(
    baseline: str,
    rules: Rules,
    models: Sequence[str],
    *,
    repository: Path,
    accept: Sequence[str] = (),
    timing: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Check:
    """Compares what is installed with a revision of `repository`, or with a file of evidence."""
    file = Path(baseline)
    if file.is_file():
        return _against_file(read_evidence(file), rules, models, repository, accept, timing, say)
    commit = resolve_commit(baseline, repository)
    say(f"installing {commit[:12]}")
    path = install_revision(commit, repository, cache_root())
    with ExitStack() as stack:
        old = stack.enter_context(probe_server(str(path), threads=rules.threads))
        new = stack.enter_context(probe_server(threads=rules.threads))
        seeds = rules.learning
        before = gather(old, rules, models, seeds=seeds.baseline_seeds, revision=commit[:12], say=say)
        after = gather(new, rules, models, seeds=seeds.seeds, revision=current_revision(repository), say=say)
        findings = judge(before, after, rules, accept)
        for model in _comparable(findings, models) if timing else []:
            say(f"{model}: step time")
            verdict = compare_times(model, old, new, rules.time, rules.protocol, say=_telling(model, say))
            findings.append(accepting(time_finding(verdict, rules), accept))
    return Check(before, after, tuple(findings))


def _against_file(
    before: Evidence,
    rules: Rules,
    models: Sequence[str],
    repository: Path,
    accept: Sequence[str],
    timing: bool,
    say: Callable[[str], None],
) -> Check:
    """What was not asked for is not missing."""
    asked = before.model_copy(
        update={
            "cells": [one for one in before.cells if one.model in models and one.task in rules.tasks],
            "learning": [one for one in before.learning if one.model in learners(rules, models)],
        }
    )
    with probe_server(threads=rules.threads) as server:
        revision, seeds = current_revision(repository), rules.learning.seeds
        after = gather(server, rules, models, seeds=seeds, revision=revision, say=say)
        findings = judge(asked, after, rules, accept)
        for model in _comparable(findings, models) if timing else []:
            stored = before.timed(model)
            if stored is None or not before.alike(after) or not stored.logs:
                continue  # There is nothing to hold it to; times of another kind of machine are nothing, too.
            say(f"{model}: step time")
            verdict = compare_with_stored(
                stored, server, rules.time, rules.protocol, say=_telling(model, say)
            )
            findings.append(accepting(time_finding(verdict, rules, stored=True), accept))
    return Check(before, after, tuple(findings))


def _telling(model: str, say: Callable[[str], None]) -> Callable[[int, float, float], None]:
    def tell(pairs: int, low: float, high: float) -> None:
        say(f"{model}: ratio of step times {low:.3f} to {high:.3f} after {pairs} pairs")

    return tell


def time_finding(found: TimeVerdict, rules: Rules, *, stored: bool = False) -> Finding:
    """A time verdict as one line among the others; before is 1. stored: against a file's calibrated time."""
    shown = "" if found.low is None else f"{found.low:.3f} to {found.high:.3f}, "
    pairs = "1 pair" if found.pairs == 1 else f"{found.pairs} pairs"
    note = f"{shown}{pairs} in {found.seconds:.0f} s"
    if found.answer == "same":
        note += f"; same within {rules.time.stored_within if stored else rules.time.within:.0%}"
    if stored:
        note += "; through the calibration step"
    if found.note:
        note += f"; {found.note}"
    task = f"{rules.time.batch_size} x {rules.time.length}"
    before = None if found.ratio is None else 1.0
    return Finding(
        kind="time",
        model=found.model,
        task=task,
        metric="step time",
        verdict=_OF_TIME[found.answer],
        before=before,
        after=found.ratio,
        note=note,
        low=found.low,
        high=found.high,
    )


def _comparable(findings: Sequence[Finding], models: Sequence[str]) -> list[str]:
    """Models that both revisions can run."""
    lacking = {finding.model for finding in findings if finding.metric == CELL}
    return [model for model in models if model not in lacking]
