"""Transformer-XL: its limit, what reaches what, and where gradients stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.memory.relative_attention import RelativeAttention, shift
from lra_bench.models.memory.transformer_xl import TransformerXL
from lra_bench.models.sparse.local import Local


def build(**options: Any) -> TransformerXL:
    torch.manual_seed(0)
    return TransformerXL(24, 3, head_dim=8, max_length=64, **options).double()


def tokens(length: int) -> Tensor:
    torch.manual_seed(1)
    return 3 * torch.randn(2, length, 24, dtype=torch.float64)


def jacobian(mixer: TransformerXL, length: int) -> Tensor:
    """(length, length): how much the gradient of output i says of token j."""
    found = torch.autograd.functional.jacobian(lambda x: mixer(x).sum(-1)[0], tokens(length)[:1])
    return found[:, 0].abs().sum(-1)


def reach(mixer: TransformerXL, length: int) -> Tensor:
    """(length, length) bool: does changing token j change the output at token i?"""
    x = tokens(length)[:1]
    with torch.no_grad():
        before = mixer(x)[0]
        rows = [x.index_fill(1, torch.tensor([j]), 7.0) for j in range(length)]
        return torch.stack([(mixer(row)[0] - before).abs().amax(-1) > 1e-9 for row in rows], dim=1)


@pytest.mark.parametrize("segment_length", [19, 64])
def test_one_plain_segment_is_softmax_attention(
    segment_length: int, evidence: Callable[[str, str, Any], None]
) -> None:
    mixer = build(segment_length=segment_length, memory_length=0, relative_positions=False)
    exact = Transformer(24, 3, head_dim=8, max_length=64).double()
    exact.load_state_dict(mixer.state_dict())
    expected = exact(tokens(19))
    error = float((mixer(tokens(19)) - expected).abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence("transformer_xl", "identity", {"what": "one segment, plain scores: softmax", "error": error})


def test_zero_positions_over_everything_is_softmax_attention() -> None:
    """With W_r = 0 and u = 0 only contents are left, whatever v is."""
    mixer = build(segment_length=64)
    torch.nn.init.zeros_(mixer.scores.position_projection.weight)
    torch.nn.init.zeros_(mixer.scores.content_bias)
    exact = Transformer(24, 3, head_dim=8, max_length=64).double()
    exact.load_state_dict(mixer.state_dict(), strict=False)
    torch.testing.assert_close(mixer(tokens(19)), exact(tokens(19)))


def test_segments_without_memory_are_blocks() -> None:
    mixer = build(segment_length=5, memory_length=0, relative_positions=False)
    blocks = Local(24, 3, head_dim=8, max_length=64, block_size=5).double()
    blocks.load_state_dict(mixer.state_dict())
    torch.testing.assert_close(mixer(tokens(18)), blocks(tokens(18)))


@pytest.mark.parametrize("relative_positions", [True, False])
@pytest.mark.parametrize("memory_length", [0, 3, 9])
def test_tokens_see_their_segment_and_the_memory(memory_length: int, relative_positions: bool) -> None:
    mixer = build(segment_length=4, memory_length=memory_length, relative_positions=relative_positions)
    place = torch.arange(14)
    start = place // 4 * 4
    expected = (place >= (start - memory_length)[:, None]) & (place < (start + 4)[:, None])
    assert torch.equal(reach(mixer, 14), expected)


@pytest.mark.parametrize("relative_positions", [True, False])
def test_no_gradient_to_the_memory(relative_positions: bool) -> None:
    mixer = build(segment_length=4, memory_length=9, relative_positions=relative_positions)
    segment = torch.arange(14) // 4
    assert torch.equal(jacobian(mixer, 14) > 0, segment[:, None] == segment)


def test_gradients_to_the_memory_can_be_kept() -> None:
    mixer = build(segment_length=4, memory_length=9, stop_gradient=False)
    assert torch.equal(jacobian(mixer, 14) > 0, reach(mixer, 14))


def test_weights_learn_from_the_memory_as_if_it_were_a_constant() -> None:
    """Backward through one segment at a time, the memory given as numbers, gives the same gradients."""
    mixer, by_hand = build(segment_length=4, memory_length=4), build(segment_length=4, memory_length=4)
    weights = torch.randn(2, 8, 24, dtype=torch.float64)
    x = tokens(8).requires_grad_()
    (mixer(x) * weights).sum().backward()
    y = tokens(8).requires_grad_()
    by_hand.stop_gradient = False
    first = by_hand(y)[:, :4]
    second = by_hand(torch.cat([y[:, :4].detach(), y[:, 4:]], dim=1))[:, 4:]
    (torch.cat([first, second], dim=1) * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for (name, one), two in zip(mixer.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, msg=name)


def test_relative_scores_do_not_know_where_they_are() -> None:
    """Two segments alike, with memories alike, give the same outputs wherever they are."""
    mixer = build(segment_length=4, memory_length=4)
    mixed = mixer(tokens(4).repeat(1, 4, 1))
    torch.testing.assert_close(mixed[:, 4:8], mixed[:, 12:])
    assert not torch.allclose(mixed[:, :4], mixed[:, 4:8])  # the first has no memory


@pytest.mark.parametrize(("rows", "seen"), [(1, 1), (1, 4), (3, 3), (3, 7), (5, 6)])
def test_shift_puts_every_distance_at_its_key(rows: int, seen: int) -> None:
    table = torch.arange(seen - 1, -rows - 1, -1).repeat(2, rows, 1)
    own = seen - rows + torch.arange(rows)  # where in its window a query is
    assert torch.equal(shift(table)[1, :, :seen], own[:, None] - torch.arange(seen))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("segment", [1, 3])
def test_backward_by_hand_is_the_gradient(segment: int, dropout: float) -> None:
    torch.manual_seed(0)
    seen = torch.rand(4, 5) > 0.3
    seen[:, 0] = True
    shapes = [(2, 4, segment, 3), (2, 4, 5, 3), (2, 4, 5, 3), (2, 4, segment, 3), (2, 3, segment + 5)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def attend(*tensors: Tensor) -> Tensor:
        torch.manual_seed(1)  # the same weights dropped every time
        return RelativeAttention.apply(*tensors, seen, dropout)

    assert torch.autograd.gradcheck(attend, inputs)


@pytest.mark.parametrize("relative_positions", [True, False])
def test_dropout_of_weights_in_training_only(relative_positions: bool) -> None:
    mixer = build(segment_length=4, memory_length=4, dropout=0.5, relative_positions=relative_positions)
    plain = build(segment_length=4, memory_length=4, relative_positions=relative_positions)
    x = tokens(14)
    assert torch.equal(mixer.eval()(x), plain(x))
    with torch.no_grad():
        passes = torch.stack([mixer.train()(x) for _ in range(3000)])
    assert passes.std(dim=0).min() > 0
    error = (passes.mean(dim=0) - plain(x)).abs() / passes.std(dim=0) * 3000**0.5
    assert error.max() < 6  # of the mean, in its standard errors


def test_cost_grows_with_length_times_window() -> None:
    def flops(length: int, **options: int) -> int:
        return TransformerXL.cost(length, 64, 2, head_dim=32, relative_positions=False, **options).flops

    whole = {"segment_length": 64, "memory_length": 64}
    assert flops(4096, **whole) == 4 * flops(1024, **whole)
    # A token of memory costs a product with the query and one with the weights, for every query.
    assert flops(4096, segment_length=64, memory_length=192) - flops(4096, **whole) == 4 * 4096 * 128 * 64
