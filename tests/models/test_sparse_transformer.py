"""Sparse Transformer: its limits, which tokens reach which, and what it saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lra_bench.errors import OptionError
from lra_bench.measure.flops import count_flops
from lra_bench.measure.saved import saved_bytes
from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.sparse.sparse_transformer import SparseTransformer


def build(max_length: int = 64, **options: Any) -> SparseTransformer:
    torch.manual_seed(0)
    return SparseTransformer(24, 3, head_dim=8, max_length=max_length, **options).double()


def reach(mixer: SparseTransformer, length: int) -> torch.Tensor:
    """(length, length) bool: does changing token j change the output at token i?"""
    x = torch.randn(1, length, 24, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda tokens: mixer(tokens).sum(-1)[0], x)
    return jacobian[:, 0].abs().sum(-1) > 0


LIMITS = {
    "within one stride": {"stride": 19},
    "stride far beyond": {"stride": 64},
    "stride 1: every token is in the column": {"stride": 1},
    "all of every block is summary": {"pattern": "fixed", "stride": 4, "num_summary": 4},
    "fixed within one block": {"pattern": "fixed", "stride": 20},
}


@pytest.mark.parametrize("what", LIMITS)
def test_whole_sequence_in_reach_gives_softmax_attention(what: str, evidence: Callable[..., None]) -> None:
    mixer = build(**LIMITS[what])
    exact = Transformer(24, 3, head_dim=8, max_length=64).double()
    exact.load_state_dict(mixer.state_dict())
    x = 3 * torch.randn(2, 19, 24, dtype=torch.float64)
    with torch.no_grad():
        expected = exact(x)
        error = float((mixer(x) - expected).abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence("sparse_transformer", "identity", {"what": f"{what}: softmax attention", "error": error})


PLACE = torch.arange(23)
ROW, COLUMN = PLACE[:, None], PLACE[None]
NEAR = {"strided": (ROW - COLUMN).abs() < 5, "fixed": ROW // 5 == COLUMN // 5}
FAR = {"strided": (ROW - COLUMN) % 5 == 0, "fixed": COLUMN % 5 >= 3}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pattern", ["strided", "fixed"])
@pytest.mark.parametrize("heads", ["merged", "split", "interleaved"])
def test_reaches_what_the_sets_hold(pattern: str, causal: bool, heads: str) -> None:
    options = {"pattern": pattern, "stride": 5, "num_summary": 2, "causal": causal, "heads": heads}
    for layer_index in (0, 1):
        if heads == "interleaved":
            expected = (NEAR, FAR)[layer_index][pattern] | (ROW == COLUMN)
        else:
            expected = NEAR[pattern] | FAR[pattern]
        expected = expected & (COLUMN <= ROW) if causal else expected
        assert torch.equal(reach(build(layer_index=layer_index, **options), 23), expected)


def test_two_layers_reach_everything() -> None:
    """The paper's requirement: p steps of the factorisation connect all pairs."""
    first, second = (reach(build(stride=5, heads="interleaved", layer_index=layer), 23) for layer in (0, 1))
    assert (first.float() @ second.float() > 0).all()


def test_interleaved_layers_take_turns() -> None:
    arguments = {"head_dim": 8, "max_length": 64, "dropout": 0.0, "stride": 5, "heads": "interleaved"}
    layers = SparseTransformer.build_layers(4, 24, 3, **arguments)
    assert [layer.num_near for layer in layers] == [3, 0, 3, 0]


@pytest.mark.parametrize("pattern", ["strided", "fixed"])
def test_cost_of_a_layer_of_the_far_set(pattern: str) -> None:
    options = {"pattern": pattern, "stride": 5, "num_summary": 2, "heads": "interleaved", "layer_index": 1}
    mixer = build(**options).float()
    cost = SparseTransformer.cost(23, 24, 3, head_dim=8, **options)
    small, large = (saved_bytes(mixer, torch.randn(batch, 23, 24, requires_grad=True)) for batch in (1, 3))
    assert (large - small) / 2 == pytest.approx(cost.activation_bytes, rel=0.02)
    with torch.device("meta"):
        mixer = SparseTransformer(24, 3, head_dim=8, max_length=64, **options)
        assert count_flops(mixer, (torch.empty(1, 23, 24), None)).forward == cost.flops


@pytest.mark.parametrize(("max_length", "stride"), [(1024, 32), (4096, 64), (1000, 32), (1, 1)])
def test_stride_of_none_is_near_the_root(max_length: int, stride: int) -> None:
    assert build(max_length, stride=None).stride == stride


def test_one_head_cannot_be_split() -> None:
    with pytest.raises(OptionError, match="heads='split' is out of range: expected merged or interleaved"):
        SparseTransformer(8, 1, head_dim=8, max_length=64, heads="split")


@pytest.mark.parametrize("heads", ["merged", "split"])
def test_attention_dropout_acts_in_training_only(heads: str) -> None:
    mixer = build(stride=5, dropout=0.5, heads=heads)
    x = torch.randn(2, 23, 24, dtype=torch.float64)
    assert not torch.equal(mixer.train()(x), mixer(x))
    assert torch.equal(mixer.eval()(x), mixer(x))


def test_flops_grow_as_n_sqrt_n_with_the_stride_at_its_root() -> None:
    """Of the core: four times the length is eight times the work, and dense attention's sixteen."""
    core = []
    for length in (1024, 4096, 16384):
        cost = SparseTransformer.cost(length, 64, 2, head_dim=32, stride=None)
        core.append(cost.flops - SparseTransformer.projection_cost(length, 64, 2, 32).flops)
    assert core[1] == 8 * core[0]
    assert core[2] == 8 * core[1]


def test_costs_less_than_dense_attention() -> None:
    for length, share in ((1024, 0.25), (4096, 0.1)):
        sparse = SparseTransformer.cost(length, 64, 2, head_dim=32).flops
        dense = Transformer.cost(length, 64, 2, head_dim=32).flops
        projections = SparseTransformer.projection_cost(length, 64, 2, 32).flops
        assert sparse - projections < share * (dense - projections)
