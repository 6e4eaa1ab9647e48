"""Shatter: its limits, its parts, and what it does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lra_bench.measure.saved import saved_bytes
from lra_bench.mixer import mask_from_lengths
from lra_bench.models.exact import shatter
from lra_bench.models.exact.shatter import Shatter
from lra_bench.models.exact.transformer import Transformer

OFF = {"single_head": False, "partition": False, "sigmoid": False, "key_projection": True}


def build(dim: int = 24, **options: Any) -> Shatter:
    torch.manual_seed(0)
    return Shatter(dim, 4, **{"head_dim": 8, "max_length": 64, **options}).double()


def tokens(length: int = 19, dim: int = 24) -> torch.Tensor:
    return 3 * torch.randn(2, length, dim, dtype=torch.float64)


@pytest.mark.parametrize("lengths", [[19, 19], [19, 4]])
def test_all_options_off_give_the_transformer(lengths: list[int], evidence: Callable[..., None]) -> None:
    mixer = build(**OFF)
    exact = Transformer(24, 4, head_dim=8, max_length=64).double()
    exact.load_state_dict(mixer.state_dict())
    x, mask = tokens(), mask_from_lengths(torch.tensor(lengths), 19)
    with torch.no_grad():
        expected = exact(x, mask)[mask]
        error = float((mixer(x, mask)[mask] - expected).abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence("shatter", "identity", {"what": "the Transformer with all options off", "error": error})


def test_softmax_in_blocks_gives_the_transformer() -> None:
    """Through our own attention, forward and backward: one part holds every distance."""
    mixer = build(**{**OFF, "partition": True, "num_parts": 1})
    exact = Transformer(24, 4, head_dim=8, max_length=64).double()
    exact.load_state_dict(mixer.state_dict())
    x = tokens()
    torch.testing.assert_close(mixer(x), exact(x))
    for module in (mixer, exact):
        module(x).square().sum().backward()
    for ours, theirs in zip(mixer.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("single_head", [True, False])
@pytest.mark.parametrize("key_projection", [True, False])
def test_blocks_do_not_change_the_result(
    sigmoid: bool, single_head: bool, key_projection: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = build(sigmoid=sigmoid, single_head=single_head, key_projection=key_projection)
    x, mask = tokens(31).requires_grad_(), mask_from_lengths(torch.tensor([31, 12]), 31)

    def run() -> list[torch.Tensor]:
        mixed = mixer(x, mask)
        return [mixed, *torch.autograd.grad(mixed.sin().sum(), [x, *mixer.parameters()])]

    whole = run()
    monkeypatch.setattr(shatter, "FEWEST_ROWS", 7)
    monkeypatch.setattr(shatter, "BLOCK_NUMBERS", {"cpu": 1})
    for blocked, expected in zip(run(), whole, strict=True):
        torch.testing.assert_close(blocked, expected)


@pytest.mark.parametrize("num_parts", [1, 2, 4, 8])
def test_parts_sum_to_one(num_parts: int) -> None:
    mixer = build(num_parts=num_parts, max_distance=20)
    table = mixer.part_weights(64, torch.device("cpu"), torch.float64)
    assert table.shape == (num_parts, 127)
    assert (table >= 0).all()
    torch.testing.assert_close(table.sum(0), torch.ones(127, dtype=torch.float64))


def test_outer_parts_are_the_far_ends() -> None:
    table = build(max_distance=20).part_weights(64, torch.device("cpu"), torch.float64)
    distance = torch.arange(63, -64, -1)
    last, first = table[-1], table[0]
    assert torch.equal(last[distance >= 20], torch.ones(44, dtype=torch.float64))
    assert torch.equal(first[distance <= -20], torch.ones(44, dtype=torch.float64))
    torch.testing.assert_close(table, table.flip(0, 1))  # before mirrors after


class HardParts(Shatter):
    """Four ranges of distances instead of soft parts."""

    EDGES = (-5, 0, 6)

    def part_weights(self, length: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        distance = torch.arange(length - 1, -length, -1)
        return torch.nn.functional.one_hot(torch.bucketize(distance, torch.tensor(self.EDGES)), 4).T.to(dtype)


def test_hard_parts_are_ranges_of_distances() -> None:
    torch.manual_seed(0)
    mixer = HardParts(24, 4, head_dim=8, max_length=64).double()
    x = tokens(length=15)
    with torch.no_grad():
        query, value = mixer.input_projection(x).split([24, 32], dim=-1)
        weights = torch.sigmoid(query @ x.mT / 24**0.5 - torch.tensor(15.0, dtype=torch.float64).log())
        mixed = torch.zeros(2, 15, 32, dtype=torch.float64)
        bounds = [-100, -5, 0, 6, 100]
        for i in range(15):
            for part in range(4):
                low, high = (max(0, min(15, i + bound + 1)) for bound in bounds[part : part + 2])
                own = slice(8 * part, 8 * part + 8)
                mixed[:, i, own] = (weights[:, i, low:high, None] * value[:, low:high, own]).sum(1)
        torch.testing.assert_close(mixer(x), mixer.output_projection(mixed))


def test_size_of_the_output_does_not_grow_with_the_length() -> None:
    """What - log n is for: repeating a sequence leaves the mean of its values as it is."""
    mixer = build(partition=False)
    x = 0.01 * torch.randn(1, 8, 24, dtype=torch.float64)
    with torch.no_grad():
        short, long = mixer(x), mixer(x.repeat(1, 64, 1))
        bias = mixer.output_projection.bias
        ratio = (long[:, :8] - bias).norm() / (short - bias).norm()
    assert 0.9 < float(ratio) < 1.2


def test_holds_no_matrix_of_scores() -> None:
    mixer = build(max_length=512).float().train()
    kept = [saved_bytes(mixer, torch.randn(1, length, 24).requires_grad_()) for length in (256, 512)]
    assert kept[1] < 2.05 * kept[0]
    assert kept[1] < 512 * 512 * 4


def test_dropout_is_the_same_in_both_passes() -> None:
    mixer = build(dropout=0.4, partition=False).train()
    x = tokens(7).requires_grad_()

    def run(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return mixer(x)

    assert not torch.equal(run(x), mixer.eval()(x))
    mixer.train()
    assert torch.autograd.gradcheck(run, x, fast_mode=True)


def test_dropout_keeps_the_expected_weight() -> None:
    mixer = build(dropout=0.25)
    x = tokens(19)
    with torch.no_grad():
        expected = mixer.eval()(x)
        mixer.train()
        mean = torch.stack([mixer(x) for _ in range(600)]).mean(0)
    assert float((mean - expected).norm() / expected.norm()) < 0.05


def test_one_head_costs_what_many_do_and_parts_cost_no_products() -> None:
    full = Shatter.cost(1024, 64, 4, head_dim=16)
    assert full.flops == Shatter.cost(1024, 64, 4, head_dim=16, partition=False).flops
    transformer = Transformer.cost(1024, 64, 4, head_dim=16)
    assert transformer.flops - full.flops == 2 * 1024 * 64 * 64  # the key projection
    assert full.activation_bytes < transformer.activation_bytes
