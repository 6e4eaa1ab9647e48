"""How fast a subject is beside fused softmax attention, in the same process and by turns."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.validation.finding import Finding, note
from lra_bench.validation.subject import Subject

BATCH, LENGTH, DIM, NUM_HEADS, ROUNDS = 2, 1024, 64, 4, 5


class FusedSoftmax(nn.Module):
    """Multi-head softmax attention through torch's fused kernel, with its projections."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.input_projection = nn.Linear(dim, 3 * dim)
        self.output_projection = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in self.input_projection(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.output_projection(mixed.transpose(1, 2).flatten(2))
        return projected


def against_softmax(subject: Subject) -> Finding:
    """Time of a forward and backward pass as a ratio; a figure, never a verdict."""
    sizes = replace(
        subject.sizes,
        dim=DIM,
        num_heads=NUM_HEADS,
        head_dim=DIM // NUM_HEADS,
        max_length=LENGTH,
        ffn_dim=2 * DIM,
    )
    module, softmax = replace(subject, sizes=sizes).build().train(), FusedSoftmax(DIM, NUM_HEADS)
    x = torch.randn(BATCH, LENGTH, DIM, requires_grad=True)
    ratios = []
    for number in range(ROUNDS + 1):
        order = (module, softmax) if number % 2 else (softmax, module)
        times = {id(one): _step_s(one, x) for one in order}
        ratios.append(times[id(module)] / times[id(softmax)])
    ratio = statistics.median(ratios[1:])  # the first round warms up
    return note(
        f"{ratio:.2f} x the time of fused softmax attention "
        f"({LENGTH:,} tokens, batch {BATCH}, {torch.get_num_threads()} threads; {min(ratios[1:]):.2f} to "
        f"{max(ratios[1:]):.2f})",
        ratio=ratio,
    )


def _step_s(module: nn.Module, x: Tensor) -> float:
    module.zero_grad(set_to_none=True)
    x.grad = None
    start = time.perf_counter()
    module(x).square().mean().backward()
    return time.perf_counter() - start
