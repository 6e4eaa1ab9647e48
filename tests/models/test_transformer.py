"""The two exact entries against each other and against torch's own layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lra_bench.mixer import TokenMixer, mask_from_lengths
from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.exact.transformer_explicit import TransformerExplicit


def build(kind: type[TokenMixer], dropout: float = 0.0) -> TokenMixer:
    torch.manual_seed(0)
    return kind(24, 3, head_dim=8, max_length=64, dropout=dropout).double()


@pytest.mark.parametrize("kind", [Transformer, TransformerExplicit])
def test_equals_torch_multihead_attention(kind: type[TokenMixer]) -> None:
    mixer = build(kind)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True, dtype=torch.float64)
    theirs.in_proj_weight, theirs.in_proj_bias = mixer.input_projection.weight, mixer.input_projection.bias
    theirs.out_proj.weight, theirs.out_proj.bias = (
        mixer.output_projection.weight,
        mixer.output_projection.bias,
    )
    x = 3 * torch.randn(3, 21, 24, dtype=torch.float64)
    mask = mask_from_lengths(torch.tensor([21, 8, 1]), 21)
    torch.testing.assert_close(mixer(x), theirs(x, x, x, need_weights=False)[0])
    expected = theirs(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
    torch.testing.assert_close(mixer(x, mask)[mask], expected[mask])


@pytest.mark.parametrize("kind", [Transformer, TransformerExplicit])
def test_dropout_keeps_the_mean_and_ends_in_eval(kind: type[TokenMixer]) -> None:
    mixer = build(kind, dropout=0.3)
    x = torch.randn(1, 9, 24, dtype=torch.float64)
    torch.manual_seed(1)
    with torch.no_grad():
        samples = mixer.train()(x.expand(4000, -1, -1))
        expected = mixer.eval()(x)
    assert samples.std(dim=0).min() > 1e-3
    error = (samples.mean(dim=0) - expected[0]).abs() / (samples.std(dim=0) / 4000**0.5)
    assert error.max() < 5  # 216 standard normal numbers stay below 5 but for 1 seed in 8,000


def test_fused_kernel_keeps_memory_linear() -> None:
    costs = [Transformer.cost(length, 64, 2, head_dim=32).activation_bytes for length in (1000, 2000)]
    assert costs[1] == 2 * costs[0]
    explicit = TransformerExplicit.cost(2000, 64, 2, head_dim=32).activation_bytes
    assert explicit > 4 * 2 * 2000**2  # the weights of two heads, four bytes each, and more


@pytest.mark.parametrize("kind", [Transformer, TransformerExplicit])
def test_flops_by_hand(kind: type[TokenMixer]) -> None:
    # d = 2, one head of e = 3, n = 5: projections 4 x 2*5*2*3, scores 2*5*5*3, mixing 2*5*5*3.
    assert kind.cost(5, 2, 1, head_dim=3).flops == 4 * 60 + 150 + 150
