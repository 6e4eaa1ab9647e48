"""Sparse Sinkhorn attention: its limit, that its sort matters, and that it is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.learned_sparse.sinkhorn import Sinkhorn

Evidence = Callable[[str, str, Any], None]


def build(**options: Any) -> Sinkhorn:
    torch.manual_seed(0)
    return Sinkhorn(24, 3, head_dim=8, max_length=64, **options).double().eval()


def tokens(batch: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(batch, length, 24, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("block_size", "length"), [(19, 19), (64, 19), (64, 64)])
def test_one_block_gives_softmax_attention(block_size: int, length: int, evidence: Evidence) -> None:
    """The sorted block is then the block itself: every key twice, which a softmax doesn't notice."""
    mixer = build(block_size=block_size)
    exact = Transformer(24, 3, head_dim=8, max_length=64).double()
    exact.load_state_dict({k: v for k, v in mixer.state_dict().items() if not k.startswith("sort_")})
    x = tokens(2, length)
    got, expected = mixer(x).detach(), exact(x).detach()
    torch.testing.assert_close(got, expected)
    error = float((got - expected).abs().max() / expected.abs().max())
    evidence("sinkhorn", "identity", {"what": "one block: softmax attention", "error": error})


@pytest.mark.parametrize("change", ["zero", "permute"])
def test_the_sort_net_matters(change: str) -> None:
    """In the 2020 release it has no effect at all."""
    mixer, x = build(block_size=8), tokens(2, 64)
    before = mixer(x)
    with torch.no_grad():
        new = mixer.sort_output.roll(1, dims=-1) if change == "permute" else torch.zeros(())
        mixer.sort_output.copy_(new.expand_as(mixer.sort_output).clone())
        after = mixer(x)
    assert ((after - before).norm() / before.norm()) > 0.02


def test_gradient_reaches_the_sort_net() -> None:
    mixer, x = build(block_size=8), tokens(2, 64)
    mixer(x).square().sum().backward()
    for weight in (mixer.sort_hidden, mixer.sort_output):
        assert weight is not None
        assert weight.grad is not None
        assert weight.grad.norm() > 1e-3


def test_a_permutation_sorts_blocks_as_they_are() -> None:
    """Scores of a permutation, far apart: each block sees itself and exactly the block it is given."""
    mixer, x = build(block_size=8), tokens(1, 32)
    order = [2, 0, 3, 1]
    mixer.scores = lambda pooled: 1e3 * torch.eye(4, dtype=torch.float64)[order].expand(1, 3, 4, 4)  # type: ignore
    query, key, value = mixer.project(x)
    rows = []
    for block, other in enumerate(order):
        own, ahead = slice(8 * block, 8 * block + 8), slice(8 * other, 8 * other + 8)
        keys, values = (torch.cat((part[:, :, own], part[:, :, ahead]), dim=2) for part in (key, value))
        rows.append(torch.nn.functional.scaled_dot_product_attention(query[:, :, own], keys, values))
    expected = mixer.output_projection(torch.cat(rows, dim=2).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(x), expected)


@pytest.mark.parametrize("temperature", [0.75, 5.0])
def test_shares_are_doubly_stochastic(temperature: float) -> None:
    mixer = build(block_size=8, num_iterations=200, temperature=temperature)
    scores = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    mask = torch.arange(64) < torch.tensor([[64], [29]])
    share = mixer.normalise(scores, mask)
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 3, 8, dtype=torch.float64))
    torch.testing.assert_close(share.sum(-2), torch.ones(2, 3, 8, dtype=torch.float64))
    # The second row has four real blocks, the last of them not full.
    assert (share[1, :, :4, 4:] == 0).all()
    assert torch.equal(share[1, :, 4:, 4:], torch.eye(4, dtype=torch.float64).expand(3, 4, 4))


def test_noise_is_for_training_only() -> None:
    mixer, x = build(block_size=8), tokens(1, 40)
    assert torch.equal(mixer(x), mixer(x))
    mixer.train()
    assert not torch.equal(mixer(x), mixer(x))
    mixer.gumbel_noise = False
    assert torch.equal(mixer(x), mixer(x))


def test_noise_is_gumbel() -> None:
    """Its mean is Euler's constant and its variance pi^2 / 6; seen with no normalisation after it."""
    mixer = build(block_size=8, temperature=1.0).train()
    mixer.num_iterations = 0
    torch.manual_seed(0)
    noise = mixer.normalise(torch.zeros(64, 8, 8, 8, dtype=torch.float64), None).log()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.03)
    assert float(noise.var()) == pytest.approx(1.6449, abs=0.08)


def test_costs_of_attention_are_linear_and_of_sorting_quadratic() -> None:
    def flops(length: int) -> int:
        return Sinkhorn.cost(length, 64, 2, head_dim=32, block_size=64).flops

    # Second differences take away what is linear: sorting has 4 n^2 / w d, the sort net 2 (n / w)^2 2e h.
    second = flops(3072) - 2 * flops(2048) + flops(1024)
    step = 1024
    assert second == 2 * (4 * step**2 // 64 * 64 + 2 * (step // 64) ** 2 * 64 * 2)
