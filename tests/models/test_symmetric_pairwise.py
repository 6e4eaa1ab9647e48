"""Pairwise factors: what they start from, and what they may become."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lra_bench.models.exact.symmetric import Symmetric
from lra_bench.models.exact.symmetric_pairwise import SymmetricPairwise


def build(width: int = 8, dim: int = 20, **options: str) -> SymmetricPairwise:
    torch.manual_seed(0)
    return SymmetricPairwise(dim, 3, head_dim=width, max_length=64, **options).double()


def error_against_symmetric(mixer: SymmetricPairwise) -> float:
    plain = Symmetric(20, 3, head_dim=8, max_length=64).double()
    plain.load_state_dict({k: v for k, v in mixer.state_dict().items() if k != "pairwise_factors"})
    x = 3 * torch.randn(2, 19, 20, dtype=torch.float64)
    with torch.no_grad():
        return float((mixer(x) - plain(x)).abs().max() / plain(x).abs().max())


def test_identity_gives_symmetric_attention(evidence: Callable[..., None]) -> None:
    mixer = build(factors="normal")
    assert error_against_symmetric(mixer) > 0.1
    with torch.no_grad():
        mixer.pairwise_factors.copy_(torch.eye(8))
    error = error_against_symmetric(mixer)
    assert error < 1e-12
    evidence("symmetric_pairwise", "identity", {"what": "symmetric attention with F = I", "error": error})


def test_starts_as_symmetric_attention() -> None:
    assert error_against_symmetric(build()) < 1e-12


def scores(mixer: SymmetricPairwise) -> torch.Tensor:
    query, key, _ = mixer.project(torch.randn(4, 64, mixer.dim, dtype=torch.float64))
    return (query @ mixer._weighted(key).transpose(-2, -1)).detach()


def test_scores_need_not_be_symmetric() -> None:
    found = scores(build(factors="normal"))
    assert (found - found.transpose(-2, -1)).abs().max() > 0.1 * found.abs().max()


@pytest.mark.parametrize("width", [16, 64])
def test_authors_start_is_wider_by_the_root_of_the_width(width: int) -> None:
    """Why the default is not theirs."""

    def spread(factors: str) -> float:
        found = scores(build(width, 256, factors=factors))
        return float(found[..., ~torch.eye(64, dtype=torch.bool)].std())

    assert spread("normal") / spread("scaled_normal") == pytest.approx(width**0.5, rel=1e-6)
    assert spread("normal") / spread("identity") == pytest.approx(width**0.5, rel=0.25)
    assert spread("scaled_normal") / spread("identity") == pytest.approx(1, rel=0.25)


def test_every_head_learns_its_own_factors() -> None:
    mixer = build()
    mixer(torch.randn(2, 19, 20, dtype=torch.float64)).square().sum().backward()
    first, second, third = mixer.pairwise_factors.grad
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)
    assert not torch.allclose(first, first.T)


def test_factors_cost_little_beside_the_scores() -> None:
    plain, ours = (kind.cost(4096, 64, 2, head_dim=32) for kind in (Symmetric, SymmetricPairwise))
    assert ours.flops - plain.flops == 2 * 4096 * 64 * 32
    assert ours.activation_bytes - plain.activation_bytes == 4 * 4096 * 64
