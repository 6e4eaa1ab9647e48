"""Checks of gradients: that each parameter gets one, and that it is right."""

from __future__ import annotations

import torch
from torch import Tensor

from lra_bench.validation.finding import Finding, failed, passed
from lra_bench.validation.inputs import mask_of, tokens
from lra_bench.validation.subject import Subject

SHARE_REACHED = 0.5
"""Of a parameter's entries. Half, since a bias of all keys alike cancels in a softmax: it gets none."""


def every_parameter(subject: Subject) -> Finding:
    """A loss over all outputs reaches each parameter, and each token of the input."""
    module = subject.build().double().train()
    length = subject.sizes.max_length
    x = (2 * tokens(subject, 3, length, dtype=torch.float64)).requires_grad_()
    loss = (module(x) * tokens(subject, 3, length, 4, torch.float64)).sum()
    for part in module.modules():
        extra = getattr(part, "auxiliary_loss", None)
        loss = loss if extra is None else loss + extra
    loss.backward()
    assert x.grad is not None
    if not x.grad.abs().amax(dim=-1).gt(0).all():
        return failed("some tokens of the input get no gradient.")
    for name, parameter in module.named_parameters():
        gradient = parameter.grad
        if gradient is None:
            return failed(f"{name} is a dead parameter: no result depends on it.")
        largest = gradient.abs().max()
        if not largest > 1e-6:
            return failed(f"{name} gets next to no gradient (largest {float(largest):.1e}).")
        reached = float((gradient.abs() > 1e-9 * largest).double().mean())
        if reached < SHARE_REACHED:
            return failed(f"only {reached:.0%} of {name} gets a gradient.")
    count = sum(1 for _ in module.parameters())
    return passed(f"reach {'all' if count else 'the input; there are no'} {count or ''} parameter tensors")


def by_differences(subject: Subject) -> Finding:
    """Analytic gradients equal numeric ones in float64 (`gradcheck`), with and without a mask."""
    module = subject.build().double().train()
    names = [name for name, _ in module.named_parameters()]
    x = tokens(subject, 2, 7, dtype=torch.float64).requires_grad_()
    for mask in (None, mask_of([7, 4])):

        def mixed(x: Tensor, *values: Tensor, mask: Tensor | None = mask) -> Tensor:
            given = dict(zip(names, values, strict=True))
            result: Tensor = torch.func.functional_call(module, given, (x, mask))
            return result if mask is None else result[mask]

        try:
            torch.autograd.gradcheck(mixed, [x, *module.parameters()], fast_mode=True)
        except RuntimeError as error:
            return failed(f"gradients differ from numeric ones: {str(error).strip().splitlines()[0]}")
    return passed("equal numeric ones in float64, with and without a mask")
