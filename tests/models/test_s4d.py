"""S4D: its kernel, its two directions, and what stays in float32."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lra_bench.models.state_space.s4d import S4D, fast_length


def build(**options: Any) -> S4D:
    torch.manual_seed(0)
    return S4D(6, 2, head_dim=3, max_length=512, **options)


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("options", [{}, {"bidirectional": False}], ids=str)
def test_is_a_direct_convolution_with_the_full_table(
    options: dict[str, Any], evidence: Callable[..., None]
) -> None:
    mixer = build(activation="none", gated=False, **options).double()
    x, kernel = tokens(2, 37, 6), mixer.kernel
    step = kernel.log_dt.exp()[:, None] * torch.complex(-kernel.log_A_real.exp(), kernel.A_imag)
    table = torch.exp(step[..., None] * torch.arange(37))  # (d, N / 2, n): every power by itself
    gain = torch.view_as_complex(kernel.C) * (step.exp() - 1) / step * kernel.log_dt.exp()[:, None]
    kernels = 2 * torch.einsum("chn,hnl->chl", gain, table).real
    y = F.conv1d(F.pad(x.mT, (36, 0)), kernels[0].flip(-1)[:, None], groups=6) + mixer.D[:, None] * x.mT
    if mixer.bidirectional:
        y = y + F.conv1d(F.pad(x.mT, (0, 36)), kernels[1][:, None], groups=6)
    expected = mixer.output_projection(y.mT)
    error = float((mixer(x) - expected).detach().abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence(
        "s4d", "identity", {"what": f"direct convolution, full table of powers {options}", "error": error}
    )


def test_reversed_sequence_and_exchanged_directions_reverse_the_output() -> None:
    mixer, x = build().double(), tokens(2, 21, 6)
    other = copy.deepcopy(mixer)
    with torch.no_grad():
        other.kernel.C.copy_(mixer.kernel.C.flip(0))
    torch.testing.assert_close(other(x.flip(1)).flip(1), mixer(x))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_which_tokens_reach_which(bidirectional: bool) -> None:
    mixer = build(bidirectional=bidirectional).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: mixer(x).sum(-1)[0], tokens(1, 9, 6))
    reached = jacobian[:, 0].abs().sum(-1) > 1e-9
    full = torch.ones(9, 9, dtype=torch.bool)
    assert torch.equal(reached, full if bidirectional else full.tril())


def test_starts_as_the_paper_says() -> None:
    lin, inverse = build(state_size=8).kernel, build(state_size=8, init="inv").kernel
    torch.testing.assert_close(lin.A_imag[0], math.pi * torch.arange(4.0))
    expected = torch.tensor([8 / math.pi * (8 / (2 * n + 1) - 1) for n in range(4)])
    torch.testing.assert_close(inverse.A_imag[3], expected)
    torch.testing.assert_close(lin.log_A_real.exp(), torch.full((6, 4), 0.5))
    torch.manual_seed(0)
    dt = S4D(4000, 1, head_dim=1, max_length=8, state_size=2).kernel.log_dt.detach().exp()
    assert dt.min() >= 0.001 * 0.999
    assert dt.max() <= 0.1 * 1.001
    assert dt.log().median() == pytest.approx(math.log(0.01), abs=0.1)


def test_discretizations_agree_for_small_steps() -> None:
    steps = {"dt_min": 1e-4, "dt_max": 1e-4, "state_size": 4, "activation": "none"}
    zoh, bilinear = (build(discretization=name, **steps).double() for name in ("zoh", "bilinear"))
    x = tokens(1, 30, 6)
    assert not torch.equal(zoh(x), bilinear(x))
    torch.testing.assert_close(zoh(x), bilinear(x), rtol=1e-5, atol=1e-6)


def test_kernel_parameters_stay_in_float32() -> None:
    mixer = build().bfloat16()
    assert {parameter.dtype for parameter in mixer.kernel.parameters()} == {torch.float32}
    assert mixer.output_projection.weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in build().double().kernel.parameters()} == {torch.float64}


def test_autocast_leaves_the_kernel_alone() -> None:
    mixer = build()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixer.kernels(50), build().kernels(50))


def test_long_kernel_in_float32() -> None:
    kernel = build().kernel
    expected = copy.deepcopy(kernel).double()(4096)
    assert (kernel(4096) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_convolution_differentiates_as_autograd_would() -> None:
    mixer = build(state_size=4).double()
    x = tokens(2, 11, 6).requires_grad_()
    assert torch.autograd.gradcheck(mixer.convolve, x)
    assert torch.autograd.gradgradcheck(mixer.convolve, x)


def test_fast_lengths() -> None:
    assert [fast_length(n) for n in (1, 2, 3, 7, 17, 33, 8191, 8193)] == [1, 2, 3, 8, 18, 36, 8192, 9216]


def test_flops_grow_with_n_log_n() -> None:
    costs = [S4D.cost(n, 64, 2, head_dim=32).flops for n in (1024, 4096)]
    assert 4 < costs[1] / costs[0] < 4.8
