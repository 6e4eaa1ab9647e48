"""Nystromformer: its limit, its landmarks, and what sequences of a batch do not have in common."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.low_rank.nystromformer import Nystromformer, _Convolution


def build(**options: int | None) -> Nystromformer:
    torch.manual_seed(0)
    return Nystromformer(24, 3, head_dim=8, max_length=64, **options)


def test_a_landmark_for_each_token_gives_softmax_attention(evidence: Callable[..., None]) -> None:
    mixer = build(num_landmarks=32, pinv_iterations=20, conv_kernel_size=None)
    exact = Transformer(24, 3, head_dim=8, max_length=64)
    exact.load_state_dict(mixer.state_dict())
    x = 3 * torch.randn(2, 32, 24)
    expected = exact(x)
    error = float((mixer(x) - expected).abs().max() / expected.abs().max())
    assert error < 1e-4
    evidence("nystromformer", "identity", {"what": "m = n, 20 steps: softmax attention", "error": error})
    few = build(num_landmarks=32, pinv_iterations=1, conv_kernel_size=None)
    assert float((few(x) - expected).abs().max()) > 100 * error  # one step is not enough


def test_pseudo_inverse_converges_to_that_of_lapack() -> None:
    mixer = build(num_landmarks=8, pinv_iterations=60).double()
    weights = torch.randn(2, 3, 8, 8, dtype=torch.float64).softmax(-1)
    torch.testing.assert_close(mixer.pseudo_inverse(weights), torch.linalg.pinv(weights))


@pytest.mark.parametrize(("length", "landmarks"), [(24, 6), (25, 6), (29, 6), (6, 6), (5, 5)])
def test_averages_over_a_mask_are_those_of_segments(length: int, landmarks: int) -> None:
    mixer = build(num_landmarks=landmarks).double()
    x = torch.randn(2, 3, length, 8, dtype=torch.float64)
    averaging = mixer.averaging(torch.ones(2, length, dtype=torch.bool), landmarks, torch.float64)
    torch.testing.assert_close(averaging[:, None] @ x, mixer.segment_means(x, landmarks))
    torch.testing.assert_close(averaging.sum(-1), torch.ones(2, landmarks, dtype=torch.float64))


def test_landmarks_are_the_papers_where_they_divide_the_length() -> None:
    x = torch.randn(1, 1, 12, 2)
    torch.testing.assert_close(build().segment_means(x, 4), x.unflatten(2, (4, 3)).mean(3))


def test_a_sequence_does_not_depend_on_its_neighbours() -> None:
    mixer = build(num_landmarks=4).double()
    x = torch.randn(2, 32, 24, dtype=torch.float64)
    neighbour = torch.cat([x[:1], 20 * x[1:]])
    torch.testing.assert_close(mixer(x)[0], mixer(neighbour)[0], rtol=1e-12, atol=1e-12)


def test_iteration_stays_in_float32_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    shipped = Nystromformer.pseudo_inverse

    def spy(mixer: Nystromformer, weights: torch.Tensor) -> torch.Tensor:
        inverse = shipped(mixer, weights)
        seen.extend([weights.dtype, inverse.dtype])
        return inverse

    monkeypatch.setattr(Nystromformer, "pseudo_inverse", spy)
    with torch.autocast("cpu", torch.bfloat16):
        build(num_landmarks=4)(torch.randn(2, 32, 24))
    assert seen == [torch.float32] * 2


@pytest.mark.parametrize("taps", [1, 3, 35])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_convolution_is_that_of_torch(taps: int, length: int) -> None:
    x = torch.randn(2, 3, length, 8, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(3, taps, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, kernel[:, None, :, None], padding=(taps // 2, 0), groups=3)
    weigh = torch.randn_like(expected)
    got = _Convolution.apply(x, kernel)
    torch.testing.assert_close(got, expected)
    for mine, theirs in zip(
        torch.autograd.grad((got * weigh).sum(), (x, kernel)),
        torch.autograd.grad((expected * weigh).sum(), (x, kernel)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_cost_is_linear_in_length() -> None:
    costs = [Nystromformer.cost(length, 64, 2, head_dim=32).flops for length in (1024, 2048, 3072)]
    assert costs[2] - costs[1] == costs[1] - costs[0]
