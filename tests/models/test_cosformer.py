"""cosFormer: the weights it stands for, and what M does."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lra_bench.models.kernel.cosformer import CosFormer


def build(**options: object) -> CosFormer:
    torch.manual_seed(0)
    return CosFormer(24, 3, head_dim=8, max_length=64, **options).double()


def explicit(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale_length: int) -> torch.Tensor:
    position = torch.arange(query.shape[2], dtype=torch.float64)
    decay = (math.pi / 2 * (position[:, None] - position) / scale_length).cos()
    weights = query.relu() @ key.relu().transpose(-2, -1) * decay  # (b, h, n, n)
    return weights @ value / weights.sum(-1, keepdim=True).clamp(min=1e-6)


def test_features_stand_for_cosine_weighted_linear_attention(evidence: Callable[..., None]) -> None:
    mixer = build()
    query, key, value = torch.randn(3, 2, 3, 64, 8, dtype=torch.float64)
    expected = explicit(query, key, value, 64)
    error = float((mixer.attend(query, key, value, None) - expected).abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence("cosformer", "identity", {"what": "n x n weights with cos(pi (i - j) / 2M)", "error": error})


def test_at_full_length_it_is_the_authors_choice_of_m() -> None:
    full, longer = build(), build(scale_length=128)
    query, key, value = torch.randn(3, 2, 3, 64, 8, dtype=torch.float64)
    authors = explicit(query, key, value, query.shape[2])
    torch.testing.assert_close(full.attend(query, key, value, None), authors)
    assert not torch.allclose(longer.attend(query, key, value, None), authors)


def test_endless_scale_is_linear_attention_without_reweighting() -> None:
    x = torch.randn(2, 50, 24, dtype=torch.float64)
    torch.testing.assert_close(build(scale_length=10**9)(x), build(reweight=False)(x))


def test_weights_are_never_negative() -> None:
    """Values of one at a single token come out between zero and one everywhere."""
    mixer = build()
    query, key = torch.randn(2, 1, 3, 64, 8, dtype=torch.float64)
    for token in (0, 63):
        value = torch.zeros(1, 3, 64, 8, dtype=torch.float64)
        value[:, :, token] = 1
        mixed = mixer.attend(query, key, value, None)
        assert mixed.min() >= 0
        assert mixed.max() <= 1


def test_query_without_a_positive_feature_gives_zero() -> None:
    mixer = build()
    query = -torch.ones(1, 3, 10, 8, dtype=torch.float64)
    key, value = torch.randn(2, 1, 3, 10, 8, dtype=torch.float64)
    assert torch.equal(mixer.attend(query, key, value, None), torch.zeros(1, 3, 10, 8, dtype=torch.float64))


def test_cost_is_linear_in_length() -> None:
    first, second, third = (CosFormer.cost(length, 64, 2, head_dim=32).flops for length in (1000, 2000, 3000))
    assert third - second == second - first
