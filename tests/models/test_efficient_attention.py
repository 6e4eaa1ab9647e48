"""Efficient attention: its weights are weights, and its limit of one feature a head."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lra_bench.models.low_rank.efficient_attention import EfficientAttention


@pytest.mark.parametrize("padded", [False, True])
def test_implied_weights_sum_to_one(padded: bool) -> None:
    """Values that are all alike come out as they went in."""
    torch.manual_seed(0)
    mixer = EfficientAttention(24, 3, head_dim=8, max_length=64).double()
    torch.nn.init.zeros_(mixer.input_projection.weight[48:])
    x = 3 * torch.randn(2, 40, 24, dtype=torch.float64)
    mask = torch.arange(40) < torch.tensor([[40], [9]]) if padded else torch.ones(2, 40, dtype=torch.bool)
    value = mixer.input_projection.bias[48:]
    expected = (mixer.output_projection.weight @ value + mixer.output_projection.bias).expand(2, 40, -1)
    torch.testing.assert_close(mixer(x, mask)[mask], expected[mask])


def test_one_feature_a_head_is_pooling_with_learned_weights(evidence: Callable[..., None]) -> None:
    """With e = 1 every query takes the only map, softmax of the keys over the sequence."""
    torch.manual_seed(0)
    mixer = EfficientAttention(24, 5, head_dim=1, max_length=64).double()
    x = 3 * torch.randn(2, 40, 24, dtype=torch.float64)
    _, key, value = mixer.input_projection(x).chunk(3, dim=-1)  # (b, n, h)
    pooled = (key.softmax(dim=1) * value).sum(dim=1, keepdim=True)
    expected = mixer.output_projection(pooled).expand(-1, 40, -1)
    error = float((mixer(x) - expected).abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence("efficient_attention", "identity", {"what": "e = 1: pooling by softmax(k)", "error": error})


def test_cost_is_linear_in_length() -> None:
    first, second, third = (
        EfficientAttention.cost(length, 64, 2, head_dim=32).flops for length in (1000, 2000, 3000)
    )
    assert third - second == second - first
