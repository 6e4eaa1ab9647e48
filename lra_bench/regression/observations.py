"""What records, measuring sessions and evidence say about metrics, as values that can be lined up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from lra_bench.bench.analysis import time_ratio
from lra_bench.bench.records import BenchRecord, Session
from lra_bench.protocol import digest
from lra_bench.records import RunRecord
from lra_bench.regression.commits import DIRTY
from lra_bench.regression.evidence import CellEvidence, Evidence
from lra_bench.regression.rules import ExactRules, LearningRules

OF_ALL = "-"
"""The precision or device of what does not depend on it."""
WITH_CHANGES = " with changes"
"""After the commit in `Evidence.revision`."""


@dataclass(frozen=True)
class Metric:
    """How a group of metrics is judged."""

    unit: str
    worse: Literal["more", "less", "neither"]
    noisy: bool = False
    """Levels are found by statistics; otherwise any change is one."""
    min_change: float = 0.0
    """Of a noisy one, the least of interest: a share, or a difference where `absolute`."""
    absolute: bool = False
    tolerance: float = 0.0
    """Relative difference of exact values that is rounding."""


METRICS: dict[str, Metric] = {
    "parameters": Metric("parameters", "more"),
    "flops": Metric("FLOPs", "more"),
    "bytes": Metric("bytes", "more"),
    "accuracy": Metric("share", "less", noisy=True, min_change=LearningRules().accuracy_floor, absolute=True),
    "loss": Metric("nats", "more", noisy=True, min_change=LearningRules().loss_floor),
    "time": Metric("x transformer", "more", noisy=True, min_change=0.05),
    # Other processors and versions of torch round otherwise, and a series may meet several.
    "outputs": Metric("nats", "neither", tolerance=ExactRules().outputs_elsewhere),
    "digests": Metric("", "neither"),
    "status": Metric("", "more"),
}
"""By group, in the order of tables."""


@dataclass(frozen=True, order=True)
class SeriesKey:
    """What must be the same for two values to be compared."""

    model: str
    """With its changed options as one would write them."""
    task: str
    """Or batch x length of a measuring session."""
    group: str
    """One of `METRICS`."""
    metric: str
    setting: str
    """Protocol with a digest, and what was changed of it; of evidence the digest of a cell's settings."""
    device: str
    precision: str
    compiled: bool

    @property
    def where(self) -> str:
        """All that is the same for a cell's metrics, but model and task."""
        parts = [self.setting, self.device, self.precision if self.precision != OF_ALL else ""]
        return ", ".join([part for part in parts if part] + ["compiled"] * self.compiled)


@dataclass(frozen=True)
class Observation:
    """One source's values of a series at one commit."""

    key: SeriesKey
    commit: str | None
    """None where the source does not know; with `DIRTY` at its end where it had changes."""
    date: datetime | None
    values: tuple[float | str, ...]
    """Several where there are several seeds."""
    origin: str
    """What makes it the same observation when it is met again."""
    half_width: float | None = None
    """Of the value's own interval."""
    circumstances: tuple[tuple[str, str], ...] = ()
    """What else may move the value: names and values."""


def of_record(record: RunRecord) -> Iterator[Observation]:
    """A run's sizes, scores and status. Not its step time: it stands beside no other of its session."""
    protocol = record.protocol
    setting = _setting(protocol.name, protocol.sha256, protocol.overrides)
    key = SeriesKey(
        record.model.label,
        record.task.name,
        "status",
        "status",
        setting,
        record.device,
        record.precision,
        record.compiled,
    )
    commit, date = _provenance(record.provenance)
    origin = f"{record.run_id} {record.provenance.get('finished')}"
    same = Observation(key, commit, date, (record.status,), origin, None, _torch(record.environment))
    yield same
    yield _of(same, "parameters", "parameters", record.model.parameters.total)
    if record.flops:
        yield _of(same, "flops", "FLOPs, step", record.flops.step)
        yield _of(same, "flops", "FLOPs, forward", record.flops.forward)
    if record.peak_memory:
        yield _peak(same, "step", record.peak_memory.peak_bytes, record.peak_memory.method)
    if record.accuracy:
        best = record.accuracy.best
        yield _of(same, "accuracy", "accuracy", best.accuracy, (best.interval[1] - best.interval[0]) / 2)
        yield _of(same, "loss", "test loss", best.loss)
    for name, split in record.task.splits.items():
        yield _of(same, "digests", f"{name} data", split.sha256)
    # Its own digest is what changes here, so it is no part of the key.
    digested = replace(same, key=replace(key, setting=_setting(protocol.name, "", protocol.overrides)))
    yield _of(digested, "digests", "protocol", protocol.sha256)


def of_session(session: Session) -> Iterator[Observation]:
    """A session's sizes, and its times as ratios to the reference that took turns with them."""
    for cell in session.cells:
        if cell.role == "cell" or session.find(*cell.key) is cell:
            yield from _of_cell(session, cell)


def _of_cell(session: Session, cell: BenchRecord) -> Iterator[Observation]:
    record = session.record
    changes = {name: value for name, value in record.overrides.items() if name != "budget.batch_size"}
    setting = _setting(record.protocol, record.protocol_sha256, changes)
    step = "step" if record.mode == "train" else "forward"
    key = SeriesKey(
        cell.label,
        f"{cell.batch_size} x {cell.length}",
        "status",
        f"status, {step}",
        f"{setting}, padded" if record.padded else setting,
        record.device,
        record.precision,
        cell.compiled,
    )
    commit, date = _provenance(record.provenance)
    origin = f"{record.session} {cell.group}"
    same = Observation(key, commit, date, (cell.status,), origin, None, _torch(record.environment))
    yield same
    yield _of(same, "parameters", "parameters", cell.parameters.total)
    if cell.flops:
        yield _of(same, "flops", "FLOPs, forward", cell.flops.forward)
        if step == "step":
            yield _of(same, "flops", "FLOPs, step", cell.flops.step)
    if cell.peak_memory:
        yield _peak(same, step, cell.peak_memory.peak_bytes, cell.peak_memory.method)
    ratio = time_ratio(cell)
    if ratio is not None and cell.role != "reference" and cell.status == "ok":
        yield _of(same, "time", f"{step} time", ratio.value, (ratio.high - ratio.low) / 2)


def of_evidence(evidence: Evidence) -> Iterator[Observation]:
    """What a baseline file of `check` says; it is always of the CPU in single precision."""
    origin = digest(evidence.model_dump(mode="json"))
    commit = evidence.revision.removesuffix(WITH_CHANGES)
    if evidence.revision.endswith(WITH_CHANGES):
        commit += DIRTY
    around = (("torch", evidence.torch), ("processor", evidence.processor))
    for cell in evidence.cells:
        key = SeriesKey(cell.model, cell.task, "status", "status", "check", "cpu", "fp32", False)
        status = "ok" if cell.failure is None else "failed"
        same = Observation(key, _commit(commit), None, (status,), origin, None, around)
        yield same
        if cell.failure is None:
            yield from _of_evident(same, cell)
    for learned in evidence.learning:
        key = SeriesKey(
            learned.model, learned.task, "status", "status, learning", "check learning", "cpu", "fp32", False
        )
        status = "ok" if learned.failure is None else "failed"
        same = Observation(key, _commit(commit), None, (status,), origin, None, around)
        yield same
        if learned.runs:
            scores = tuple(run.accuracy for run in learned.runs)
            losses = tuple(run.mean_loss for run in learned.runs)
            yield replace(_of(same, "accuracy", "accuracy", 0.0), values=scores)
            yield replace(_of(same, "loss", "training loss", 0.0), values=losses)


def _of_evident(same: Observation, cell: CellEvidence) -> Iterator[Observation]:
    settings = cell.fingerprints.get("settings", "")
    for name, found in cell.fingerprints.items():
        yield _of(same, "digests", name, found)
    same = replace(same, key=replace(same.key, setting=_setting("check", settings, {})))
    if cell.parameters is not None:
        yield _of(same, "parameters", "parameters", cell.parameters)
    for name, count in cell.flops.items():
        yield _of(same, "flops", f"FLOPs, {name}", count)
    for name, count in cell.bytes.items():
        yield _of(same, "bytes", f"peak bytes, {name}", count)
    for name, losses in cell.outputs.items():
        if losses and name != "norm":  # which is no loss, and moves with them
            metric = "loss before training" if name == "evaluation" else f"loss, {name} step {len(losses)}"
            yield _of(same, "outputs", metric, losses[-1])


def _of(
    same: Observation, group: str, metric: str, value: float | str, half_width: float | None = None
) -> Observation:
    """Another metric of the same cell."""
    key = replace(same.key, group=group, metric=metric)
    return replace(same, key=key, values=(value,), half_width=half_width)


def _peak(same: Observation, step: str, peak_bytes: int, method: str) -> Observation:
    found = _of(same, "bytes", f"peak bytes, {step}", peak_bytes)
    return replace(found, circumstances=(*found.circumstances, ("memory method", method)))


def finite(observation: Observation) -> bool:
    return all(isinstance(value, str) or math.isfinite(value) for value in observation.values)


def _setting(protocol: str, sha256: str, overrides: Mapping[str, Any]) -> str:
    changes = ", ".join(f"{name}={value}" for name, value in sorted(overrides.items()))
    return ", ".join(filter(None, (" ".join(filter(None, (protocol, sha256[:8]))), changes)))


def _provenance(provenance: Mapping[str, Any]) -> tuple[str | None, datetime | None]:
    """Commit and date of a record."""
    commit = provenance.get("commit")
    if commit and provenance.get("dirty"):
        commit += DIRTY
    try:
        date = datetime.fromisoformat(str(provenance.get("started") or provenance.get("finished")))
    except ValueError:
        return commit, None
    return commit, date if date.tzinfo else date.replace(tzinfo=UTC)


def _commit(revision: str) -> str | None:
    return None if revision == "unknown" else revision


def _torch(environment: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    version = (environment.get("versions") or {}).get("torch")
    return (("torch", str(version)),) if version else ()
