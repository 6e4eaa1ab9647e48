"""Symmetric attention: what it is of softmax attention, and what makes it symmetric."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lra_bench.mixer import mask_from_lengths
from lra_bench.models.exact.symmetric import Symmetric
from lra_bench.models.exact.transformer import Transformer

INNER = 24


def build() -> Symmetric:
    torch.manual_seed(0)
    return Symmetric(20, 3, head_dim=8, max_length=64).double()


@pytest.mark.parametrize("lengths", [[19, 19], [19, 4]])
def test_softmax_attention_with_keys_projected_as_queries(
    lengths: list[int], evidence: Callable[..., None]
) -> None:
    mixer = build()
    exact = Transformer(20, 3, head_dim=8, max_length=64).double()
    with torch.no_grad():
        for part in ("weight", "bias"):
            query, value = getattr(mixer.input_projection, part).split(INNER)
            getattr(exact.input_projection, part).copy_(torch.cat([query, query, value]))
        exact.output_projection.load_state_dict(mixer.output_projection.state_dict())
        x = 3 * torch.randn(2, 19, 20, dtype=torch.float64)
        mask = mask_from_lengths(torch.tensor(lengths), 19)
        expected = exact(x, mask)[mask]
        error = float((mixer(x, mask)[mask] - expected).abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence("symmetric", "identity", {"what": "softmax attention with W_k := W_q", "error": error})


def test_scores_are_symmetric() -> None:
    query, key, _ = build().project(torch.randn(2, 19, 20, dtype=torch.float64))
    scores = query @ key.transpose(-2, -1)
    torch.testing.assert_close(scores, scores.transpose(-2, -1))
    assert (scores.diagonal(dim1=-2, dim2=-1) >= 0).all()


def test_one_projection_less_than_softmax_attention() -> None:
    def parameters(kind: type[torch.nn.Module]) -> int:
        return sum(p.numel() for p in kind(32, 4, head_dim=8, max_length=64).parameters())

    assert parameters(Transformer) - parameters(Symmetric) == 32 * 32 + 32


def test_a_token_sees_itself() -> None:
    mixer = build()
    x = torch.randn(1, 1, 20, dtype=torch.float64)
    value = mixer.input_projection(x)[..., INNER:]
    torch.testing.assert_close(mixer(x), mixer.output_projection(value))


def test_cost_grows_with_the_square_of_the_length_and_memory_with_the_length() -> None:
    costs = [Symmetric.cost(length, 64, 2, head_dim=32) for length in (4096, 8192)]
    projections = [2 * length * 64 * 64 * 3 for length in (4096, 8192)]
    cores = [cost.flops - own for cost, own in zip(costs, projections, strict=True)]
    assert cores[1] == 4 * cores[0]
    assert costs[1].activation_bytes == 2 * costs[0].activation_bytes


def test_dropout_acts_on_the_weights_in_training_only() -> None:
    torch.manual_seed(0)
    mixer = Symmetric(20, 3, head_dim=8, max_length=64, dropout=0.5)
    x = torch.randn(2, 19, 20)
    assert not torch.equal(mixer.train()(x), mixer(x))
    assert torch.equal(mixer.eval()(x), mixer(x))
