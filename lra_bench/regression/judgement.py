"""Evidence of two revisions, compared: what changed, by how much, and whether that is a regression."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lra_bench.regression.evidence import CellEvidence, Evidence, ModelLearning
from lra_bench.regression.rules import LearningRules, Rules

Kind = Literal["exact", "outputs", "learning", "time"]
Verdict = Literal[
    "same", "better", "worse", "changed", "new", "vanished", "failed", "inconclusive", "not compared"
]
CELL = "cell"
"""The metric of a finding that says whether there is anything to compare."""
_OUTPUTS = {
    "evaluation": "loss before training",
    "training": "losses, training",
    "norm": "norm of parameters after training steps",
}
REGRESSIONS: frozenset[Verdict] = frozenset({"worse", "changed", "vanished", "failed"})


@dataclass(frozen=True)
class Finding:
    """One metric of one model, before and after."""

    kind: Kind
    model: str
    task: str
    metric: str
    verdict: Verdict
    before: float | str | None = None
    after: float | str | None = None
    note: str = ""
    accepted: bool = False
    """A change that was announced; reported, and no regression."""
    low: float | None = None
    high: float | None = None
    """Between these two lies what `after` estimates; None where it was counted."""

    @property
    def is_regression(self) -> bool:
        return self.verdict in REGRESSIONS and not self.accepted

    @property
    def change(self) -> float | None:
        """Relative to before; None where that has no meaning."""
        if isinstance(self.before, float | int) and isinstance(self.after, float | int) and self.before:
            return self.after / self.before - 1
        return None


def judge(before: Evidence, after: Evidence, rules: Rules, accept: Sequence[str] = ()) -> list[Finding]:
    """All findings of the exact and the learning class, in the order of cells.

    accept: metrics whose change is meant: a name, or a kind for all of it.
    """
    found = (*_exact(before, after, rules), *_learning(before, after, rules.learning))
    return [accepting(finding, accept) for finding in found]


def accepting(finding: Finding, accept: Sequence[str]) -> Finding:
    """The finding, marked as meant where its metric or kind was named."""
    # What is gone or broken can't be meant by naming a metric that is no longer there.
    meant = finding.verdict in ("worse", "changed")
    named = finding.kind in accept or finding.metric in accept
    return replace(finding, accepted=meant and named)


def _exact(before: Evidence, after: Evidence, rules: Rules) -> Iterator[Finding]:
    keys = dict.fromkeys((one.model, one.task) for one in (*before.cells, *after.cells))
    for model, task in keys:
        old, new = before.cell(model, task), after.cell(model, task)
        presence = _presence("exact", model, task, old, new)
        if presence is not None:
            yield presence
            continue
        assert old is not None
        assert new is not None
        yield from _sizes(old, new, rules)
        yield from _fingerprints(old, new)
        elsewhere = not before.alike(after)
        tolerance = rules.exact.outputs_elsewhere if elsewhere else rules.exact.outputs
        yield from _outputs(old, new, tolerance, elsewhere)


def _presence(
    kind: Kind,
    model: str,
    task: str,
    old: CellEvidence | ModelLearning | None,
    new: CellEvidence | ModelLearning | None,
) -> Finding | None:
    """A finding where one of the two has nothing to compare."""
    if new is None:
        return Finding(kind, model, task, CELL, "vanished", note="the baseline has it")
    if new.failure is not None:
        was = "failed in the baseline, too" if old is not None and old.failure is not None else ""
        verdict: Verdict = "not compared" if was else "failed"
        return Finding(kind, model, task, CELL, verdict, note="; ".join(filter(None, (new.failure, was))))
    if old is None or old.failure is not None:
        return Finding(kind, model, task, CELL, "new", note="the baseline has nothing to compare with")
    return None


def _sizes(old: CellEvidence, new: CellEvidence, rules: Rules) -> Iterator[Finding]:
    sizes = [("parameters", old.parameters or 0, new.parameters or 0, rules.exact.parameters)]
    sizes += [
        (f"FLOPs, {name}", old.flops.get(name, 0), new.flops.get(name, 0), rules.exact.flops)
        for name in new.flops
    ]
    sizes += [
        (f"peak bytes, {name}", old.bytes.get(name, 0), new.bytes.get(name, 0), rules.exact.bytes)
        for name in new.bytes
    ]
    for metric, was, now, tolerance in sizes:
        verdict: Verdict = "same"
        if now > was * (1 + tolerance):
            verdict = "worse"
        elif now < was * (1 - tolerance):
            verdict = "better"
        yield Finding("exact", new.model, new.task, metric, verdict, was, now)


def _fingerprints(old: CellEvidence, new: CellEvidence) -> Iterator[Finding]:
    for name in dict.fromkeys((*old.fingerprints, *new.fingerprints)):
        was, now = old.fingerprints.get(name), new.fingerprints.get(name)
        verdict: Verdict = "same" if was == now else "changed"
        yield Finding("exact", new.model, new.task, name, verdict, (was or "-")[:12], (now or "-")[:12])


def _outputs(old: CellEvidence, new: CellEvidence, tolerance: float, elsewhere: bool) -> Iterator[Finding]:
    for name in new.outputs:
        metric = _OUTPUTS.get(name, name)
        if name not in old.outputs:
            yield Finding(
                "outputs", new.model, new.task, metric, "new", note="the baseline has no such output"
            )
            continue
        was, now = old.outputs[name], new.outputs[name]
        if len(was) != len(now):
            note = f"{len(was)} values before, {len(now)} now"
            yield Finding("outputs", new.model, new.task, metric, "changed", note=note)
            continue
        # nan compares as unequal to everything: a loss that became nan is a change.
        apart = [not abs(b - a) <= tolerance * max(abs(a), abs(b)) for a, b in zip(was, now, strict=True)]
        place = apart.index(True) if any(apart) else -1
        note = "another processor or torch: compared with a wider tolerance" if elsewhere else ""
        if place >= 0 and len(now) > 1:
            note = "; ".join(filter(None, (f"from step {place + 1} on", note)))
        verdict: Verdict = "changed" if place >= 0 else "same"
        yield Finding("outputs", new.model, new.task, metric, verdict, was[place], now[place], note)


def _learning(before: Evidence, after: Evidence, rules: LearningRules) -> Iterator[Finding]:
    for model in dict.fromkeys(one.model for one in (*before.learning, *after.learning)):
        old, new = before.learned(model), after.learned(model)
        task = (new or old).task if (new or old) else rules.task  # type: ignore[union-attr]
        presence = _presence("learning", model, task, old, new)
        if presence is not None:
            yield presence
            continue
        assert old is not None
        assert new is not None
        yield _worse_than_spread(
            new, "accuracy", [run.accuracy for run in old.runs], [run.accuracy for run in new.runs], rules
        )
        yield _worse_than_spread(
            new,
            "training loss",
            [run.mean_loss for run in old.runs],
            [run.mean_loss for run in new.runs],
            rules,
        )


def _worse_than_spread(
    learned: ModelLearning, metric: str, was: Sequence[float], now: Sequence[float], rules: LearningRules
) -> Finding:
    """One-sided: a mean over seeds that is worse than the baseline's by more than its spread allows."""
    mean, spread = statistics.fmean(was), statistics.stdev(was)
    found = statistics.fmean(now)
    floor = rules.accuracy_floor if metric == "accuracy" else rules.loss_floor * mean
    margin = max(floor, rules.deviations * spread)
    loss = mean - found if metric == "accuracy" else found - mean
    verdict: Verdict = "worse" if not loss <= margin else "better" if loss < -margin else "same"
    note = f"{len(was)} and {len(now)} seeds; may be worse by {margin:.3g}"
    return Finding("learning", learned.model, learned.task, metric, verdict, mean, found, note)
