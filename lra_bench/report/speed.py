"""Speed, memory and FLOPs of a leaderboard's models, from one measuring session."""

from __future__ import annotations

from collections.abc import Sequence

from lra_bench.bench.analysis import bytes_ratio, flops_ratio, time_ratio
from lra_bench.bench.records import REFERENCE, Session

COLUMNS = ("time", "peak memory", "FLOPs")


def speed_session(
    sessions: Sequence[Session], *, device: str, protocol_sha256: str, precision: str, compiled: bool
) -> Session | None:
    """The newest complete session of training steps under the same protocol, device and settings."""
    fitting = [
        session
        for session in sessions
        if session.record.complete
        and session.record.mode == "train"
        and session.record.device == device
        and session.record.protocol_sha256 == protocol_sha256
        and session.record.precision == precision
        and compiled in session.record.compiled
        and set(session.record.overrides) <= {"budget.batch_size"}
    ]
    return max(fitting, key=lambda session: session.record.session, default=None)


def speed_length(session: Session, compiled: bool) -> int:
    """The longest length at which the reference was measured; the shortest of the session if it never was."""
    measured = [
        length
        for length in session.record.lengths
        if (cell := session.find(REFERENCE, length, compiled)) is not None and cell.status == "ok"
    ]
    return max(measured, default=session.record.lengths[0])


def speed_cells(
    session: Session, label: str, compiled: bool, missing: str, reasons: dict[str, str]
) -> list[str]:
    """Ratios to the reference for `COLUMNS`, at `speed_length`."""
    cell = session.find(label, speed_length(session, compiled), compiled)
    if cell is None:
        return [missing] * len(COLUMNS)
    if cell.status != "ok":
        return [reasons.get(cell.status, cell.status)] * len(COLUMNS)
    time = time_ratio(cell)
    shown = None if time is None else f"{time.value:.2f} ({time.low:.2f}-{time.high:.2f})"
    quotients = (bytes_ratio(session, cell), flops_ratio(session, cell))
    return [shown or missing, *(missing if one is None else f"{one:.2f}" for one in quotients)]


def speed_note(session: Session, compiled: bool) -> str:
    """Where the three columns come from."""
    record = session.record
    return (
        f"Time, peak memory and FLOPs are ratios to `{REFERENCE}` for a training step of {record.batch_size} "
        f"x {speed_length(session, compiled):,} tokens, from measuring session {record.session}."
    )
