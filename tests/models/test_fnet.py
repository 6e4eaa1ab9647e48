"""FNet: what the transform does, and what padding does to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lra_bench.mixer import mask_from_lengths
from lra_bench.models.convolution.fnet import FNet


def build(dim: int = 10, **options: str) -> FNet:
    return FNet(dim, 2, head_dim=5, max_length=64, **options)


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("length", "dim"), [(8, 10), (7, 10), (8, 9), (7, 9), (1, 4), (5, 1), (2, 2)])
def test_is_the_real_part_of_the_full_transform(length: int, dim: int, evidence: Callable[..., None]) -> None:
    x = tokens(2, length, dim)
    got, expected = build(dim)(x), torch.fft.fft2(x, dim=(1, 2)).real
    error = float((got - expected).abs().max() / expected.abs().max())
    assert error < 1e-14
    evidence("fnet", "identity", {"what": "torch.fft.fft2, all frequencies, real part", "error": error})


def test_twice_gives_the_even_part_back() -> None:
    # Re F is n d times the projection onto what is even under (m, c) -> (-m, -c), in another basis.
    x, mixer = tokens(2, 12, 10), build(scaling="orthonormal")
    reversed_x = x.flip(1, 2).roll((1, 1), (1, 2))
    torch.testing.assert_close(mixer(mixer(x)), (x + reversed_x) / 2)


def test_orthonormal_is_a_matter_of_scale_only() -> None:
    x = tokens(3, 9, 10)
    torch.testing.assert_close(build(scaling="orthonormal")(x) * 90**0.5, build()(x))


def test_content_of_padding_is_not_seen() -> None:
    x, mask = tokens(2, 12, 10), mask_from_lengths(torch.tensor([12, 7]), 12)
    other = torch.where(mask[..., None], x, torch.inf)
    assert torch.equal(build()(x, mask)[mask], build()(other, mask)[mask])


def test_amount_of_padding_is_seen() -> None:
    # Frequencies are fractions of the padded length: the card says so, and why.
    x = tokens(1, 7, 10)
    padded = torch.cat([x, tokens(1, 5, 10)], dim=1)
    got = build()(padded, mask_from_lengths(torch.tensor([7]), 12))[:, :7]
    assert (got - build()(x)).abs().max() > 0.1 * got.abs().max()


def test_second_derivatives() -> None:
    x = tokens(1, 5, 4).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda tokens: build(4)(tokens).square(), x)


def test_bfloat16_is_transformed_in_float32() -> None:
    x = tokens(1, 33, 10).bfloat16()
    assert torch.equal(build()(x), build()(x.float()).bfloat16())


def test_flops_grow_a_little_faster_than_length() -> None:
    costs = [FNet.cost(length, 64, 2, head_dim=32).flops for length in (1024, 4096)]
    assert costs[1] / costs[0] == pytest.approx(4 * 18 / 16)
