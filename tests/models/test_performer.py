"""FAVOR+ statistically: unbiased, better with more features, better orthogonal; and its redraws."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import pytest
import torch

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.kernel.performer import Performer, gaussian, orthogonal_gaussian

HEAD_DIM = 8


def build(**options: object) -> Performer:
    return Performer(24, 3, head_dim=HEAD_DIM, max_length=64, **options).double()


def kernel_samples(orthogonal: bool, num_features: int, draws: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates of exp(q k / sqrt(e)), (6 pairs, draws), and the exact values, (6,)."""
    # Short vectors: the estimate's variance grows as exp(|q + k|^2), and with it the tail that a
    # Monte Carlo mean misses.
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, 1, 1, 6, HEAD_DIM, dtype=torch.float64, generator=generator)
    query, key = 1.2 * torch.nn.functional.normalize(vectors, dim=-1)
    # Blocks of e rows are independent draws, so one long projection holds many.
    assert num_features % HEAD_DIM == 0
    torch.manual_seed(0)
    mixer = build(num_features=num_features * draws, orthogonal=orthogonal)
    logs = mixer.log_features(query) + mixer.log_features(key)  # (1, 1, 6, draws * m)
    samples = logs.exp()[0, 0].unflatten(-1, (draws, num_features)).mean(dim=-1)
    return samples, (query * key).sum(-1).div(math.sqrt(HEAD_DIM)).exp().flatten()


@pytest.mark.parametrize("orthogonal", [True, False])
def test_kernel_estimate_is_unbiased(orthogonal: bool) -> None:
    """Lemma 1: the mean over draws is the softmax kernel, within Monte Carlo error."""
    samples, exact = kernel_samples(orthogonal, num_features=16, draws=10_000)
    standard_error = samples.std(dim=1) / samples.shape[1] ** 0.5
    assert (standard_error < 0.03 * exact).all()  # else the next line would pass for anything
    assert ((samples.mean(dim=1) - exact).abs() < 5 * standard_error).all()


def test_orthogonal_features_have_the_lower_variance() -> None:
    """Theorem 2, for as many features as dimensions."""
    orthogonal, _ = kernel_samples(True, num_features=HEAD_DIM, draws=20_000)
    independent, _ = kernel_samples(False, num_features=HEAD_DIM, draws=20_000)
    assert (orthogonal.var(dim=1) / independent.var(dim=1)).median() < 0.95


def test_error_falls_with_the_number_of_features(evidence: Callable[..., None]) -> None:
    torch.manual_seed(0)
    exact = Transformer(24, 3, head_dim=HEAD_DIM, max_length=64).double()
    x = torch.randn(2, 40, 24, dtype=torch.float64)
    errors = []
    for num_features in (16, 256, 4096):
        squares = []
        for _ in range(10):
            mixer = build(num_features=num_features)
            mixer.load_state_dict(exact.state_dict(), strict=False)
            squares.append((mixer(x) - exact(x)).square().mean())
        errors.append(torch.stack(squares).mean().sqrt().item())
    # Monte Carlo: 16 times the features, a quarter of the error. Half leaves room for chance.
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[1]
    evidence(
        "performer",
        "identity",
        {"what": "4,096 features, root mean square: softmax attention, statistically", "error": errors[2]},
    )


def test_orthogonal_rows() -> None:
    rows = orthogonal_gaussian(19, 8, torch.Generator().manual_seed(0))
    assert rows.shape == (19, 8)
    for block in (rows[:8], rows[8:16], rows[16:]):
        products = block @ block.T
        assert (products - products.diag().diag()).abs().max() < 1e-12


def test_rows_are_distributed_as_gaussian_rows() -> None:
    """First and second moments of single rows, and the chi-square norms, for both ways of drawing."""
    for draw in (orthogonal_gaussian, gaussian):
        rows = draw(32_000, 8, torch.Generator().manual_seed(1))
        assert rows.mean(dim=0).abs().max() < 0.03
        assert (rows.T @ rows / len(rows) - torch.eye(8)).abs().max() < 0.03
        squares = rows.square().sum(dim=-1)
        assert squares.mean().item() == pytest.approx(8, rel=0.02)
        assert squares.var().item() == pytest.approx(16, rel=0.05)


def test_redraws_after_the_interval_in_training_only() -> None:
    mixer = build(num_features=5, redraw_interval=3)
    x = torch.randn(1, 4, 24, dtype=torch.float64)
    first = mixer.projection.clone()
    seen = []
    for _ in range(7):
        mixer.eval()(x)
        mixer.train()(x)
        seen.append(mixer.projection.clone())
    assert all(torch.equal(projection, first) for projection in seen[:3])
    assert all(torch.equal(projection, seen[3]) for projection in seen[3:6])
    assert not torch.equal(seen[3], first)
    assert not torch.equal(seen[6], seen[3])
    for _ in range(10):
        mixer.eval()(x)
    assert torch.equal(mixer.projection, seen[6])


def test_never_redraws_at_interval_zero() -> None:
    mixer = build(num_features=5, redraw_interval=0).train()
    first = mixer.projection.clone()
    for _ in range(5):
        mixer(torch.randn(1, 4, 24, dtype=torch.float64))
    assert torch.equal(mixer.projection, first)


def test_resumed_run_draws_what_it_would_have_drawn() -> None:
    torch.manual_seed(0)
    mixer = build(num_features=5, redraw_interval=3).train()
    x = torch.randn(1, 4, 24, dtype=torch.float64)
    for _ in range(2):
        mixer(x)
    file = io.BytesIO()
    torch.save(mixer.state_dict(), file)
    copied = copy.deepcopy(mixer)
    torch.manual_seed(99)
    resumed = build(num_features=5, redraw_interval=3).train()
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(6):
        torch.randn(3)  # the global generator has no say
        expected = mixer(x)
        assert torch.equal(resumed(x), expected)
        assert torch.equal(copied(x), expected)


def test_backward_works_through_two_passes_with_a_redraw_between() -> None:
    """The dual encoder runs a layer twice before it goes back."""
    mixer = build(num_features=5, redraw_interval=1).train()
    x = torch.randn(1, 4, 24, dtype=torch.float64)
    (mixer(x) + mixer(x)).sum().backward()


def test_layers_draw_differently() -> None:
    first, second = Performer.build_layers(2, 24, 3, head_dim=8, max_length=64, num_features=5)
    assert not torch.equal(first.projection, second.projection)


def test_large_inputs_stay_finite() -> None:
    torch.manual_seed(0)
    mixer = Performer(24, 3, head_dim=HEAD_DIM, max_length=64)
    x = (100 * torch.randn(2, 40, 24)).requires_grad_()
    mixed = mixer(x)
    mixed.sum().backward()
    assert mixed.isfinite().all()
    assert x.grad.isfinite().all()
