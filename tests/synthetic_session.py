"""Measuring sessions from a few numbers, for tests of what is made of them."""

from pathlib import Path

from lra_bench import protocol as protocols
from lra_bench.bench.records import BenchRecord, Session, SessionRecord

NAME = "20260101-000000-00000000"


def timing(seconds, *, batch_size=4, length=1024, noise=()):
    """A StepTimePart as a dictionary whose every sample is `seconds`."""
    return {
        "samples_s": [seconds] * 6,
        "cpu_samples_s": [seconds] * 6,
        "device_samples_s": None,
        "first_step_s": seconds,
        "warm_up_steps": 3,
        "warmed_up": True,
        **dict.fromkeys(("median_s", "median_low_s", "median_high_s", "p05_s", "p95_s", "min_s"), seconds),
        "interval_level": 0.97,
        "mad_s": 0.0,
        "variation": 0.0,
        "cpu_median_s": seconds,
        "others_busy_cores": 0.0,
        "noise": list(noise),
        "noisy": bool(noise),
        "batch_size": batch_size,
        "length": length,
        "sequences_per_s": batch_size / seconds,
        "tokens_per_s": batch_size * length / seconds,
        "session": NAME,
    }


def memory(peak_bytes, state_bytes=0, method="allocator_events"):
    return {
        "method": method,
        "peak_bytes": peak_bytes,
        "state_bytes": state_bytes,
        "step_bytes": peak_bytes - state_bytes,
        "breakdown": {"parameters": state_bytes, "activations": peak_bytes - state_bytes},
        "process_peak_bytes": None,
        "reserved_bytes": None,
        "baseline_bytes": None,
        "allocation_retries": None,
        "batch_size": 4,
        "length": 1024,
    }


def cell(
    model,
    length,
    *,
    own_s=None,
    reference_s=None,
    peak_bytes=None,
    state_bytes=0,
    flops=None,
    status="ok",
    compiled=False,
    group=0,
    options=None,
    noise=(),
    method="allocator_events",
    process=(),
):
    """One record. `own_s` and `reference_s` are a turn's seconds, or a list of them."""
    turns = _listed(own_s)
    reference = model == "transformer"
    others = _listed(reference_s)
    paired = (
        None
        if reference or None in (turns, others)
        else {"own_s": turns, "reference_s": others, "process": [*process]}
    )
    step = None if turns is None else sorted(turns)[len(turns) // 2]
    return BenchRecord.model_validate(
        {
            "schema": 1,
            "session": NAME,
            "role": "reference" if reference else "cell",
            "group": group,
            "model": model,
            "family": "exact",
            "options": {},
            "changed_options": options or {},
            "length": length,
            "batch_size": 4,
            "compiled": compiled,
            "status": status,
            "reason": None if status == "ok" else f"it ended as {status}",
            "backend": "eager",
            "kernels": [],
            "parameters": {"embedding": 30, "length_dependent": 0, "core": 70},
            "parameter_ratio": 1.0,
            "predicted_bytes": None,
            "flops": None
            if flops is None
            else {"forward": flops // 3, "step": flops, "uncovered": [], "batch_size": 4, "length": length},
            "peak_memory": None if peak_bytes is None else memory(peak_bytes, state_bytes, method),
            "step_time": None if step is None else timing(step, length=length, noise=noise),
            "turns": paired,
            "flops_per_s": flops / step if flops and step else None,
            "machine": None,
        }
    )


def session(cells, *, compiled=(False,), folder=Path("nowhere")):
    """A complete session with these cells."""
    settings = protocols.load("quick").settings("text")
    record = SessionRecord.model_validate(
        {
            "schema": 1,
            "session": NAME,
            "plan_sha256": "0" * 64,
            "protocol": "quick",
            "protocol_sha256": "1" * 64,
            "overrides": {},
            "settings": settings,
            "device": "cpu-test-2c-8g",
            "precision": "fp32",
            "mode": "train",
            "batch_size": 4,
            "lengths": sorted({one.length for one in cells}),
            "models": list(dict.fromkeys(one.model for one in cells)),
            "compiled": list(compiled),
            "padded": False,
            "cell_seconds": 1.0,
            "timeout_s": 10.0,
            "group_size": 5,
            "environment": {"versions": {"torch": "2.13.0"}, "threads": 2},
            "provenance": {},
            "wall_s": 60.0,
        }
    )
    return Session(record=record, cells=list(cells), folder=folder)


def _listed(value):
    if value is None:
        return None
    return list(value) if isinstance(value, list | tuple) else [value] * 6
