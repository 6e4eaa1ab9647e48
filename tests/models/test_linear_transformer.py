"""Linear attention: its feature map and its growth."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lra_bench.models.kernel.linear_transformer import LinearTransformer, _phi


def test_feature_map_and_its_slopes_are_those_of_elu_plus_one() -> None:
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)[None, None, :, None].requires_grad_()
    torch.testing.assert_close(_phi(x, None), F.elu(x) + 1)
    slope = torch.autograd.grad(_phi(x, None).sum(), x, create_graph=True)[0]
    expected = torch.autograd.grad((F.elu(x) + 1).sum(), x, create_graph=True)[0]
    torch.testing.assert_close(slope, expected)
    curvature = torch.autograd.grad(slope.sum(), x)[0]
    torch.testing.assert_close(curvature, torch.autograd.grad(expected.sum(), x)[0])


def test_feature_map_leaves_its_input_alone() -> None:
    x = torch.randn(1, 1, 5, 4)  # contiguous, so that a view of it would be tempting
    before = x.clone()
    _phi(x, torch.tensor([True, True, False, False, False])[None, None, :, None])
    assert torch.equal(x, before)


def test_sums_far_from_one_do_not_swamp_eps() -> None:
    """Constant values come out as they went in, at any length: weights sum to one."""
    mixer = LinearTransformer(24, 3, head_dim=8, max_length=4096)
    query, key = torch.randn(2, 1, 3, 4096, 8)
    mixed = mixer.attend(query, key, torch.full((1, 3, 4096, 8), 0.7), None)
    torch.testing.assert_close(mixed, torch.full_like(mixed, 0.7))


def test_cost_is_linear_in_length() -> None:
    costs = [LinearTransformer.cost(length, 64, 2, head_dim=32).flops for length in (1000, 3000)]
    assert costs[1] == 3 * costs[0]
