"""Longformer: its limit, its window, and the global tokens' own projections."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from references.comparison import assert_matches_reference
from references.longformer import PROOF

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.sparse.longformer import Longformer

SIZES = PROOF.sizes


def build(kind: type[Longformer] = Longformer, **options: object) -> Longformer:
    torch.manual_seed(0)
    sizes = {"head_dim": SIZES.head_dim, "max_length": SIZES.max_length}
    return kind(SIZES.dim, SIZES.num_heads, **sizes, **options).double()


def reach(mixer: Longformer, length: int) -> torch.Tensor:
    """(length, length) bool: does changing token j change the output at token i?"""
    x = torch.randn(1, length, SIZES.dim, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda tokens: mixer(tokens).sum(-1)[0], x)
    return jacobian[:, 0].abs().sum(-1) > 0


def move_global_projection(mixer: Longformer) -> Longformer:
    """Away from the window's, as training does."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in mixer.global_projection.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return mixer


@pytest.mark.parametrize(
    "options",
    [{"window": 38}, {"window": 38, "num_global": 0}, {"window": 2, "num_global": 19}],
    ids=str,
)
def test_everything_in_reach_gives_softmax_attention(
    options: dict[str, int], evidence: Callable[..., None]
) -> None:
    """With the window over all, or all tokens global: their projections start as copies."""
    mixer = build(**options)
    exact = Transformer(SIZES.dim, SIZES.num_heads, head_dim=SIZES.head_dim, max_length=64).double()
    exact.load_state_dict({k: v for k, v in mixer.state_dict().items() if "global" not in k})
    x = 3 * torch.randn(2, 19, SIZES.dim, dtype=torch.float64)
    with torch.no_grad():
        error = float((mixer(x) - exact(x)).abs().max() / exact(x).abs().max())
    assert error < 1e-12
    named = ", ".join(f"{name} {value}" for name, value in options.items())
    evidence("longformer", "identity", {"what": f"softmax attention at n 19, {named}", "error": error})


@pytest.mark.parametrize("length", [12, 35])
@pytest.mark.parametrize(
    ("window", "dilation", "num_global"), [(4, 1, 0), (4, 1, 2), (6, 3, 1), (2, 4, 0), (40, 1, 1)]
)
def test_which_tokens_reach_which(length: int, window: int, dilation: int, num_global: int) -> None:
    position = torch.arange(length)
    apart = position[:, None] - position
    expected = (apart.abs() <= window // 2 * dilation) & (apart % dilation == 0)
    expected |= (position < num_global) | (position[:, None] < num_global)
    mixer = build(window=window, dilation=dilation, num_global=num_global)
    assert torch.equal(reach(mixer, length), expected)


def test_global_projections_start_as_copies_and_are_the_global_tokens_own() -> None:
    mixer = build(window=4, num_global=2)
    for name, parameter in mixer.global_projection.named_parameters():
        assert torch.equal(parameter, mixer.input_projection.get_parameter(name))
    move_global_projection(mixer)
    assert_matches_reference(mixer, PROOF, [33, 20, 3, 1])
    assert_matches_reference(mixer, PROOF, [33, 33])


class WindowProjectionsForGlobal(Longformer):
    def project_globally(self, projection, x):
        return self.project(x)


class WindowKeysForGlobal(Longformer):
    def project_globally(self, projection, x):
        _, key, value = self.project(x)
        return super().project_globally(projection, x)[0], key, value


class GlobalRowsInAnotherOrder(Longformer):
    def project_globally(self, projection, x):
        query, key, value = super().project_globally(projection, x)
        return query, value, key


@pytest.mark.parametrize("fault", [WindowProjectionsForGlobal, WindowKeysForGlobal, GlobalRowsInAnotherOrder])
def test_wrong_global_projections_are_caught(fault: type[Longformer], evidence: Callable[..., None]) -> None:
    mixer = move_global_projection(build(fault, window=4, num_global=2))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_matches_reference(mixer, PROOF, [33, 33])
    evidence("longformer", "mutants", fault.__name__)


@pytest.mark.parametrize("options", [{"num_global": 0}, {"global_projections": False}], ids=str)
def test_no_projections_that_nothing_uses(options: dict[str, object]) -> None:
    names = {name for name, _ in build(**options).named_parameters()}
    assert names == {
        f"{which}_projection.{part}" for which in ("input", "output") for part in ("weight", "bias")
    }


def test_flops_grow_with_length_and_window() -> None:
    costs = [Longformer.cost(length, 64, 2, head_dim=32).flops for length in (2048, 8192)]
    assert costs[1] == pytest.approx(4 * costs[0], rel=1e-3)
    narrow, wide = (Longformer.cost(8192, 64, 2, head_dim=32, window=w).flops for w in (64, 512))
    assert narrow < wide / 3


def test_no_more_keys_than_there_are() -> None:
    """A window wider than the sequence costs what softmax attention costs."""
    exact = Transformer.cost(200, 64, 2, head_dim=32)
    assert Longformer.cost(200, 64, 2, head_dim=32, num_global=0).flops == exact.flops
