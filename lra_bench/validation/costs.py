"""Checks of what a subject costs against what its card says: FLOPs, bytes kept, and how both grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lra_bench.measure.flops import count_flops
from lra_bench.measure.saved import saved_bytes
from lra_bench.shapes import shapes_only
from lra_bench.validation.finding import Finding, failed, note, passed, skipped
from lra_bench.validation.growth import Growth, fit, parse_growth
from lra_bench.validation.subject import Subject

BYTES_TOLERANCE = 0.02
EXCESS = 1.15
"""Growth of a measured cost over a doubling of the length, relative to what the claim allows."""
LENGTHS = (256, 512, 1024, 2048)


def counted_flops(subject: Subject, length: int) -> int:
    """Of one forward pass over one sequence, counted on meta tensors."""
    with shapes_only():
        module = subject.build()
        x = torch.empty(1, length, subject.sizes.dim, requires_grad=True)
    return count_flops(module, (x, None)).forward


def kept_bytes(subject: Subject, length: int) -> float:
    """What one more sequence of a batch keeps for backward; what the batch shares is left out."""
    module = subject.build().train()

    def batch(size: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(size, length, subject.sizes.dim, generator=generator).requires_grad_()

    small, large = (saved_bytes(module, batch(size)) for size in (2, 6))
    return (large - small) / 4


def flops(subject: Subject) -> Finding:
    """Counted FLOPs are the card's closed form."""
    if not hasattr(subject.entry.load(), "cost"):
        return skipped("no closed form: the class has no `cost`")
    lengths = (1, 19, 32, subject.sizes.max_length)
    for length in lengths:
        counted, claimed = counted_flops(subject, length), subject.cost(length).flops
        if counted != claimed:
            return failed(f"{length} tokens: {counted:,} FLOPs counted, {claimed:,} by its closed form.")
    return passed(f"equal its closed form at {len(lengths)} lengths", lengths=len(lengths))


def bytes_kept(subject: Subject) -> Finding:
    """Bytes kept for backward are the card's closed form."""
    if not hasattr(subject.entry.load(), "cost"):
        return skipped("no closed form: the class has no `cost`")
    worst = 0.0
    for length in (19, 32):
        counted, claimed = kept_bytes(subject, length), subject.cost(length).activation_bytes
        if not claimed:
            if counted:
                return failed(f"{length} tokens: {counted:,.0f} bytes kept, none by its closed form.")
            continue
        worst = max(worst, abs(counted / claimed - 1))
        if worst > BYTES_TOLERANCE:
            return failed(f"{length} tokens: {counted:,.0f} bytes kept, {claimed:,} by its closed form.")
    return passed(f"within {worst:.1%} of its closed form", error=worst)


def flops_growth(subject: Subject) -> Finding:
    """Counted FLOPs grow no faster than the card's claim."""
    return _growth(subject, subject.entry.time, "FLOPs", counted_flops)


def bytes_growth(subject: Subject) -> Finding:
    """Bytes kept for backward grow no faster than the card's claim."""
    return _growth(subject, subject.entry.memory, "bytes", kept_bytes)


def _growth(subject: Subject, claim: str, what: str, measure: Callable[[Subject, int], float]) -> Finding:
    sizes = replace(subject.sizes, dim=32, num_heads=4, head_dim=8, max_length=max(LENGTHS))
    larger = replace(subject, sizes=sizes)
    values = [float(measure(larger, length)) for length in LENGTHS]
    exponent = math.log2(values[-1] / values[-2]) if min(values) > 0 else 0.0
    if not claim:
        return note(f"{what} grow as n^{exponent:.2f} at {LENGTHS[-1]:,} tokens; the card claims nothing")
    return judge_growth(parse_growth(claim), LENGTHS, values, what)


def judge_growth(claim: Growth, lengths: Sequence[int], values: Sequence[float], what: str) -> Finding:
    """Fits a + b n + c g(n), g the claimed growth, and compares the last doubling with the claim's."""
    if max(values) == 0:
        return passed(f"no {what}")
    model = fit(claim, lengths, values)
    # Projections grow linearly whatever the core does, so nothing is held to less than that.
    allowed = max(claim(lengths[-1]) / claim(lengths[-2]), lengths[-1] / lengths[-2])
    grown = values[-1] / values[-2]
    exponent = math.log2(grown) / math.log2(lengths[-1] / lengths[-2])
    figures = {"exponent": exponent, "r2": model.r2, "residual": model.residual}
    seen = f"{what} grow as n^{exponent:.2f} from {lengths[-2]:,} to {lengths[-1]:,} tokens"
    if grown > EXCESS * allowed:
        return failed(f"{seen}; the claim is {claim.text}.", **figures)
    fitted = f"fit of {claim.text}: R2 {model.r2:.4f}, residual {model.residual:.1%}"
    return passed(f"{seen} ({fitted})", **figures)
