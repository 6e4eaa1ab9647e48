"""The Synthesizer: what its modes have in common with dot products and with each other, and their sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lra_bench.measure.saved import saved_bytes
from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.low_rank.synthesizer import MODES, Mode, Synthesizer


def build(mode: Mode, length: int = 20, **options: int) -> Synthesizer:
    torch.manual_seed(0)
    return Synthesizer(24, 3, head_dim=8, max_length=length, mode=mode, **options)


def copy_values(source: torch.nn.Module, target: torch.nn.Module) -> None:
    target.value_projection.load_state_dict(source.value_projection.state_dict())
    target.output_projection.load_state_dict(source.output_projection.state_dict())


def test_mixture_without_random_logits_is_softmax_attention(evidence: Callable[..., None]) -> None:
    mixer = build("mixture").double()
    exact = Transformer(24, 3, head_dim=8, max_length=20).double()
    with torch.no_grad():
        mixer.share.fill_(-100.0)  # a = 0
        for part in ("weight", "bias"):
            both, value = getattr(mixer.query_key_projection, part), getattr(mixer.value_projection, part)
            getattr(exact.input_projection, part).copy_(torch.cat([both, value]))
    exact.output_projection.load_state_dict(mixer.output_projection.state_dict())
    x = 3 * torch.randn(2, 17, 24, dtype=torch.float64)
    expected = exact(x)
    error = float((mixer(x) - expected).detach().abs().max() / expected.detach().abs().max())
    assert error < 1e-12
    evidence("synthesizer", "identity", {"what": "mixture with a = 0 is softmax attention", "error": error})


def test_factorised_random_is_random_with_their_product() -> None:
    factorised, full = build("factorized_random").double(), build("random").double()
    copy_values(factorised, full)
    with torch.no_grad():
        full.R.copy_(torch.einsum("nhk,mhk->hnm", factorised.R1, factorised.R2))
    x = torch.randn(2, 20, 24, dtype=torch.float64)
    torch.testing.assert_close(factorised(x), full(x))


def test_written_out_logits_of_a_padded_batch_are_those_of_each_sequence() -> None:
    mixer = build("random").double()
    x = torch.randn(2, 20, 24, dtype=torch.float64)
    mask = torch.arange(20) < torch.tensor([[20], [7]])
    torch.testing.assert_close(mixer(x, mask)[1, :7], mixer(x[1:, :7])[0])


@pytest.mark.parametrize("mode", ["random", "factorized_random"])
def test_random_weights_look_at_no_token(mode: Mode) -> None:
    """The output is linear in the input, up to biases, since nothing in it weighs anything."""
    mixer = build(mode).double()
    first, second = torch.randn(2, 1, 20, 24, dtype=torch.float64)
    zero = mixer(torch.zeros_like(first))
    torch.testing.assert_close(mixer(first + second) - zero, mixer(first) + mixer(second) - 2 * zero)


def test_dense_logits_come_from_the_queries_token_alone() -> None:
    mixer = build("dense").double()
    x = torch.randn(1, 20, 24, dtype=torch.float64)
    other = x.clone()
    other[0, 5:] = torch.randn(15, 24, dtype=torch.float64)
    # With all values alike but one, the output is a function of the weight that this one gets.
    with torch.no_grad():
        mixer.value_projection.weight.zero_()
        x[0, 3, 0] = other[0, 3, 0] = 50.0
        mixer.value_projection.weight[:, 0] = 1.0
        x[0, 5:, 0] = other[0, 5:, 0]
    assert torch.allclose(mixer(x)[0, :5], mixer(other)[0, :5])
    assert not torch.allclose(mixer(x)[0, 5:], mixer(other)[0, 5:])


@pytest.mark.parametrize("mode", MODES)
def test_parameters_are_those_that_the_mode_needs(mode: Mode) -> None:
    d, h, e, n, k, c = 24, 3, 8, 20, 4, 5
    inner = h * e
    mixer = build(mode, rank=k, factor_size=c)
    projections = (d * inner + inner) + (inner * d + d)
    first_layer = d * inner + inner
    expected = {
        "dense": first_layer + h * n * (e + 1),
        "random": h * n * n,
        "factorized_dense": first_layer + h * (n // c + c) * (e + 1),
        "factorized_random": 2 * h * n * k,
        "mixture": h * n * n + h + 2 * (d * inner + inner),
    }[mode]
    assert sum(parameter.numel() for parameter in mixer.parameters()) == projections + expected


@pytest.mark.parametrize("mode", ["dense", "factorized_random"])
def test_no_n_by_n_numbers_are_kept(mode: Mode) -> None:
    kept = []
    for length in (128, 512):
        x = torch.randn(2, length, 24, requires_grad=True)
        kept.append(saved_bytes(build(mode, length), x))
    assert kept[1] < 4.5 * kept[0]


def test_flops_grow_with_the_square() -> None:
    small, large = (Synthesizer.cost(n, 64, 2, head_dim=32).flops - 4 * n * 64 * 64 for n in (1000, 3000))
    assert large == 9 * small


def test_dropout_differs_between_sequences_and_not_in_eval() -> None:
    torch.manual_seed(0)
    mixer = Synthesizer(24, 3, head_dim=8, max_length=20, mode="random", dropout=0.5)
    x = torch.randn(1, 20, 24).expand(2, -1, -1)
    dropped = mixer.train()(x)
    assert not torch.allclose(dropped[0], dropped[1])
    same = mixer.eval()(x)
    torch.testing.assert_close(same[0], same[1])
