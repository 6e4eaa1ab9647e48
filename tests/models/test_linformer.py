"""Linformer: its limit, and who shares E and F."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.low_rank.linformer import Linformer, Sharing
from lra_bench.validation.inputs import relative_error


@pytest.mark.parametrize("sharing", ["none", "headwise", "key_value", "layerwise"])
def test_identity_projections_give_softmax_attention(sharing: Sharing, evidence: Callable[..., None]) -> None:
    """Rank n with E = F = I (eq. 7) is eq. 1 of Vaswani et al."""
    torch.manual_seed(0)
    exact = Transformer(24, 3, head_dim=8, max_length=17).double()
    mixer = Linformer(24, 3, head_dim=8, max_length=17, rank=17, sharing=sharing).double()
    mixer.load_state_dict(exact.state_dict(), strict=False)
    with torch.no_grad():
        for projection in (mixer.E, mixer.E if mixer.F is None else mixer.F):
            projection.copy_(torch.eye(17).expand_as(projection))
    x = 3 * torch.randn(2, 17, 24, dtype=torch.float64)
    with torch.no_grad():
        error = relative_error(mixer(x), exact(x))
    assert error < 1e-12
    evidence(
        "linformer", "identity", {"what": f"k = n, E = F = I, {sharing}: softmax attention", "error": error}
    )


@pytest.mark.parametrize(
    ("sharing", "numbers"),
    [
        ("none", 2 * 3 * 5 * 17 * 4),  # E and F for each of 3 heads in each of 4 layers
        ("headwise", 2 * 5 * 17 * 4),
        ("key_value", 5 * 17 * 4),
        ("layerwise", 5 * 17),
    ],
)
def test_sharing_counts_parameters_as_section_4(sharing: Sharing, numbers: int) -> None:
    arguments = {"head_dim": 8, "max_length": 17, "rank": 5, "sharing": sharing}
    layers = torch.nn.ModuleList(Linformer.build_layers(4, 24, 3, **arguments))
    plain = torch.nn.ModuleList(Transformer.build_layers(4, 24, 3, head_dim=8, max_length=17))
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (layers, plain)]
    assert counts[0] - counts[1] == numbers


def test_layerwise_projection_is_one_through_training_and_saving() -> None:
    layers = torch.nn.ModuleList(Linformer.build_layers(2, 24, 3, head_dim=8, max_length=17, rank=5))
    x = torch.randn(2, 17, 24)
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.1)
    layers[1](layers[0](x)).square().sum().backward()
    optimizer.step()
    assert layers[0].E is layers[1].E
    other = torch.nn.ModuleList(Linformer.build_layers(2, 24, 3, head_dim=8, max_length=17, rank=5))
    other.load_state_dict(layers.state_dict())
    assert torch.equal(other[1](other[0](x)), layers[1](layers[0](x)))


def test_rank_above_the_length_is_kept() -> None:
    mixer = Linformer(24, 3, head_dim=8, max_length=17, rank=40)
    assert mixer.E.shape == (40, 17)
    assert mixer(torch.randn(2, 9, 24)).isfinite().all()


def test_projected_keys_keep_their_size() -> None:
    """At initialisation, slots of unit-variance keys have a variance of at most one."""
    torch.manual_seed(0)
    for rank in (8, 512):
        mixer = Linformer(24, 3, head_dim=8, max_length=512, rank=rank)
        slots = mixer.compress(torch.randn(16, 3, 512, 8), mixer.E)
        assert slots.std().item() == pytest.approx((512 / (512 + rank)) ** 0.5, rel=0.1)
