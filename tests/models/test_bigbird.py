"""BigBird: its limit, its blocks, and how the random ones are drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from references.bigbird import PROOF, blocks_seen, order

from lra_bench.mixer import mask_from_lengths
from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.sparse.bigbird import BigBird, scramble

SIZES = PROOF.sizes


def build(**options: int) -> BigBird:
    torch.manual_seed(0)
    mixer = BigBird(
        SIZES.dim, SIZES.num_heads, head_dim=SIZES.head_dim, max_length=SIZES.max_length, **options
    )
    return mixer.double()


def reach(mixer: BigBird, length: int) -> torch.Tensor:
    """(length, length) bool: does changing token j change the output at token i?"""
    x = torch.randn(1, length, SIZES.dim, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda tokens: mixer(tokens).sum(-1)[0], x)
    return jacobian[:, 0].abs().sum(-1) > 0


def drawn(mixer: BigBird, num_blocks: int, real: int | None = None) -> list[list[set[int]]]:
    """Random blocks of every head and block."""
    chosen, counted = mixer.random(num_blocks, torch.full((1, 1, 1, 1), real or num_blocks))
    counted = counted.expand_as(chosen)
    return [
        [set(slots[counts].tolist()) for slots, counts in zip(*rows, strict=True)]
        for rows in zip(chosen[0], counted[0], strict=True)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"block_size": 64},
        {"block_size": 10},
        {"block_size": 3, "window_blocks": 13, "num_global_blocks": 0, "num_random_blocks": 0},
        {"block_size": 3, "window_blocks": 0, "num_global_blocks": 0, "num_random_blocks": 7},
    ],
    ids=str,
)
def test_all_blocks_seen_gives_softmax_attention(
    options: dict[str, int], evidence: Callable[..., None]
) -> None:
    mixer = build(**options)
    exact = Transformer(SIZES.dim, SIZES.num_heads, head_dim=SIZES.head_dim, max_length=64).double()
    exact.load_state_dict(mixer.state_dict())
    x = 3 * torch.randn(2, 19, SIZES.dim, dtype=torch.float64)
    with torch.no_grad():
        error = float((mixer(x) - exact(x)).abs().max() / exact(x).abs().max())
    assert error < 1e-12
    named = ", ".join(f"{name} {value}" for name, value in options.items())
    evidence("bigbird", "identity", {"what": f"softmax attention at n 19, {named}", "error": error})


@pytest.mark.parametrize("length", [24, 22])
@pytest.mark.parametrize("window_blocks", [0, 1, 3])
@pytest.mark.parametrize("num_global_blocks", [1, 2])
def test_window_and_global_blocks(length: int, window_blocks: int, num_global_blocks: int) -> None:
    block = torch.arange(length) // 3
    expected = (block[:, None] - block).abs() < (window_blocks + 1) // 2
    is_global = (block == 0) | ((block == 7) & (num_global_blocks == 2))
    expected = expected | is_global | is_global[:, None]
    expected |= torch.eye(length, dtype=torch.bool)  # by its query, where it doesn't see its own block
    options = {"window_blocks": window_blocks, "num_global_blocks": num_global_blocks}
    assert torch.equal(reach(build(block_size=3, num_random_blocks=0, **options), length), expected)


def test_random_blocks_are_as_many_as_asked_for_and_no_others() -> None:
    mixer = build()
    for rows in drawn(mixer, 64):
        for own, blocks in enumerate(rows[1:-1], start=1):
            assert len(blocks) == 3
            assert not blocks & {0, 63, own - 1, own, own + 1}


def test_random_blocks_come_from_the_whole_sequence_alike() -> None:
    """Over layers, heads and blocks: the 2020 release draws from the first 16 of 64 blocks."""
    counts = torch.zeros(64)
    for layer in range(50):
        for rows in drawn(build(layer_index=layer), 64):
            for blocks in rows[1:-1]:
                counts[list(blocks)] += 1
    inner = counts[3:-3]
    assert counts[0] == counts[-1] == 0
    # About 450 times each, with a standard deviation of 21.
    assert inner.min() > 0.8 * inner.mean()
    assert inner.max() < 1.2 * inner.mean()


def test_random_blocks_differ_by_seed_layer_head_and_block() -> None:
    plans = [drawn(build(**options), 64) for options in ({}, {"seed": 1}, {"layer_index": 1})]
    rows = [plan[0] for plan in plans] + [plans[0][1], plans[0][2]]
    for first in range(len(rows)):
        for second in range(first):
            same = sum(a == b for a, b in zip(rows[first], rows[second], strict=True))
            assert same <= 3
    assert len({frozenset(blocks) for blocks in rows[0]}) > 60


def test_random_blocks_are_the_same_whatever_the_state() -> None:
    mixer, generator = build(block_size=2), torch.Generator().manual_seed(1)
    x = torch.randn(2, 40, SIZES.dim, generator=generator, dtype=torch.float64)
    expected = mixer.train()(x)
    torch.manual_seed(99)
    assert torch.equal(mixer.eval()(x), expected)
    other = build(block_size=2)
    other.load_state_dict(mixer.state_dict())
    assert torch.equal(other(x), expected)


@pytest.mark.parametrize("length", [40, 38, 31, 5, 1])
def test_padding_does_not_change_the_plan(length: int) -> None:
    mixer = build(block_size=2)
    alone = -(-length // 2)
    chosen, counted = mixer.plan(32, torch.tensor(alone)[None, None, None, None])
    for head in range(SIZES.num_heads):
        for own in range(alone):
            slots = chosen[0, head, own][counted[0, head, own]].tolist()
            assert len(slots) == len(set(slots))
            assert set(slots) == blocks_seen(mixer, head, own, alone)


@pytest.mark.slow
def test_order_is_the_references() -> None:
    """The hash on tensors is the hash on Python's integers, and in [0, 2^32)."""
    numbers = [0, 1, 2, 63, 12345, 2**31, 2**32 - 1]
    scrambled = [scramble(number) for number in numbers]
    assert torch.equal(scramble(torch.tensor(numbers)), torch.tensor(scrambled))
    assert all(0 <= number < 2**32 for number in scrambled)
    assert len({order(build(), 0, own, other) for own in range(100) for other in range(100)}) > 9990


def test_a_row_without_tokens_leaves_the_others_as_they_are() -> None:
    mixer = build(block_size=2)
    x = torch.randn(3, 21, SIZES.dim, dtype=torch.float64)
    mixed = mixer(x, mask_from_lengths(torch.tensor([21, 0, 21]), 21))
    torch.testing.assert_close(mixed[[0, 2]], mixer(x[[0, 2]]))


def test_flops_grow_with_length_and_blocks_seen() -> None:
    costs = [BigBird.cost(length, 64, 2, head_dim=32).flops for length in (2048, 8192)]
    assert costs[1] == 4 * costs[0]
    projections = BigBird.projection_cost(8192, 64, 2, 32).flops
    cores = [
        BigBird.cost(8192, 64, 2, head_dim=32, num_global_blocks=0, num_random_blocks=r).flops - projections
        for r in (0, 3)
    ]
    assert cores[1] == 2 * cores[0]
