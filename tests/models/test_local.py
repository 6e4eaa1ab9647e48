"""Local attention: its limit, and which tokens reach which."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.sparse.local import Local
from lra_bench.validation.inputs import relative_error


def build(**options: int) -> Local:
    torch.manual_seed(0)
    return Local(24, 3, head_dim=8, max_length=64, **options).double()


def reach(mixer: Local, length: int) -> torch.Tensor:
    """(length, length) bool: does changing token j change the output at token i?"""
    x = torch.randn(1, length, 24, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda tokens: mixer(tokens).sum(-1)[0], x)
    return jacobian[:, 0].abs().sum(-1) > 0


@pytest.mark.parametrize(
    "options", [{"block_size": 19}, {"block_size": 64}, {"block_size": 7, "look_around": 2}]
)
def test_whole_sequence_in_reach_gives_softmax_attention(
    options: dict[str, int], evidence: Callable[..., None]
) -> None:
    mixer = build(**options)
    exact = Transformer(24, 3, head_dim=8, max_length=64).double()
    exact.load_state_dict(mixer.state_dict())
    x = 3 * torch.randn(2, 19, 24, dtype=torch.float64)
    with torch.no_grad():
        error = relative_error(mixer(x), exact(x))
    assert error < 1e-12
    evidence("local", "identity", {"what": f"{options} at n 19: softmax attention", "error": error})


@pytest.mark.parametrize("length", [12, 10])
@pytest.mark.parametrize("look_around", [0, 1])
def test_blocks_are_contiguous(length: int, look_around: int) -> None:
    block = torch.arange(length) // 4
    expected = (block[:, None] - block).abs() <= look_around
    assert torch.equal(reach(build(block_size=4, look_around=look_around), length), expected)


def test_block_of_one_sees_itself() -> None:
    mixer = build(block_size=1)
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    value = mixer.input_projection(x)[..., 48:]
    torch.testing.assert_close(mixer(x), mixer.output_projection(value))


def test_flops_grow_with_length_times_block() -> None:
    costs = [Local.cost(length, 64, 2, head_dim=32, block_size=64).flops for length in (1024, 4096)]
    assert costs[1] == 4 * costs[0]
