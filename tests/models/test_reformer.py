"""LSH attention: its limits, its hashes, and what the rounds make of a pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from references.reformer import times_seen

from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.learned_sparse.reformer import SELF_PENALTY, Reformer

Evidence = Callable[[str, str, Any], None]


def build(seed: int = 0, **options: Any) -> Reformer:
    torch.manual_seed(seed)
    return Reformer(24, 3, head_dim=8, max_length=options.pop("max_length", 64), **options).double().eval()


def tokens(batch: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(batch, length, 24, generator=generator, dtype=torch.float64)


def shared_softmax(mixer: Reformer, x: torch.Tensor) -> torch.Tensor:
    """softmax(q k' / sqrt(e) - 1e5 I) v with all n x n scores."""
    query, value = (
        part.unflatten(-1, (3, 8)).transpose(1, 2) for part in mixer.input_projection(x).chunk(2, dim=-1)
    )
    key = query / query.norm(dim=-1, keepdim=True)
    scores = query @ key.transpose(-1, -2) / math.sqrt(8) - SELF_PENALTY * torch.eye(x.shape[1])
    return mixer.output_projection((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": None},
        {"chunk_size": 64},
        # Two chunks see all of each other only from the second on; every pair is seen in some of many rounds.
        {"chunk_size": 16, "num_hashes": 200, "num_buckets": 64},
    ],
    ids=str,
)
def test_all_pairs_seen_gives_softmax_attention(options: dict[str, Any], evidence: Evidence) -> None:
    mixer, x = build(**options), tokens(2, 19)
    if options["chunk_size"] == 16:
        query = mixer.project(x)[0]
        assert all((times_seen(mixer, q.detach().numpy()) > 0).all() for row in query for q in row)
    expected, got = shared_softmax(mixer, x).detach(), mixer(x).detach()
    torch.testing.assert_close(got, expected)
    error = float((got - expected).abs().max() / expected.abs().max())
    evidence("reformer", "identity", {"what": "all pairs seen: shared-QK softmax", "error": error})


def test_without_its_changes_it_is_the_transformer() -> None:
    mixer = build(chunk_size=None, shared_qk=False, normalize_keys=False, exclude_self=False)
    exact = Transformer(24, 3, head_dim=8, max_length=64).double()
    exact.load_state_dict({k: v for k, v in mixer.state_dict().items() if k != "rotations"})
    torch.testing.assert_close(mixer(tokens(2, 19)), exact(tokens(2, 19)))


@pytest.mark.parametrize("length", [33, 64])
def test_chunks_and_one_chunk_agree_on_a_short_row(length: int) -> None:
    """A row that fits into a chunk, alone (one chunk) and in a longer batch (several)."""
    mixer = build(chunk_size=16, num_hashes=3)
    x = tokens(1, length)
    mask = torch.arange(length)[None] < 13
    torch.testing.assert_close(mixer(x, mask)[:, :13], mixer(x[:, :13]))


@pytest.mark.parametrize("discounted", [True, False])
def test_a_pair_in_several_rounds(discounted: bool) -> None:
    """With rotations that are the same in all rounds, all pairs repeat alike: nothing changes either way."""
    one = build(num_hashes=1, chunk_size=8, num_buckets=8)
    many = build(num_hashes=3, chunk_size=8, num_buckets=8, discount_repeats=discounted)
    state = one.state_dict()
    many.load_state_dict({**state, "rotations": state["rotations"].repeat(1, 3)})
    torch.testing.assert_close(many(tokens(2, 40)), one(tokens(2, 40)))


def test_alike_tokens_share_a_bucket() -> None:
    mixer = build(num_buckets=16)
    query = torch.randn(1, 3, 50, 8, dtype=torch.float64)
    bucket = mixer.hash(query)
    assert torch.equal(mixer.hash(5 * query), bucket), "only the direction counts"
    assert not (mixer.hash(-query) == bucket).any()
    assert bucket.min() >= 0
    assert bucket.max() < 16
    near = (mixer.hash(query + 0.1 * torch.randn_like(query)) == bucket).double().mean()
    far = (mixer.hash(torch.randn_like(query)) == bucket).double().mean()
    assert near > 0.7
    assert far < 0.2


def test_hashes_in_lower_precision(evidence: Evidence) -> None:
    mixer = build(num_hashes=8, max_length=1024)
    query = torch.randn(1, 3, 1024, 8, dtype=torch.float64)
    exact = mixer.hash(query)
    shares = {}
    for dtype in (torch.float32, torch.bfloat16):
        got = mixer.hash(query.to(dtype))
        shares[str(dtype).removeprefix("torch.")] = float((got == exact).double().mean())
    assert shares["float32"] > 0.9999
    assert shares["bfloat16"] > 0.95
    for precision, share in shares.items():
        evidence("reformer", "agreement", {"what": f"buckets in {precision} as in float64", "share": share})


def test_training_draws_anew_and_evaluation_does_not() -> None:
    mixer, x = build(num_hashes=1, chunk_size=4), tokens(1, 40)
    assert torch.equal(mixer(x), mixer(x))
    mixer.train()
    assert not torch.equal(mixer(x), mixer(x))
    torch.manual_seed(3)
    first = mixer(x)
    torch.manual_seed(3)
    assert torch.equal(mixer(x), first)
    mixer.redraw = False
    assert torch.equal(mixer(x), mixer(x))


def test_more_chunks_than_a_narrow_integer_holds() -> None:
    """Repeats are counted in eight bits up to 64 chunks, and in more beyond: both are right at the border."""
    for length in (64 * 2, 65 * 2, 160 * 2):
        mixer = build(num_hashes=3, chunk_size=2, num_buckets=8, max_length=length)
        query = mixer.project(tokens(1, length))[0]
        order = mixer.sort(mixer.hash(query), None)
        windows = torch.nn.functional.pad(order, (2, 0)).unfold(-1, 4, 2)
        count = mixer.repeats(order, windows, order.argsort(-1))
        times = torch.from_numpy(times_seen(mixer, query[0, 0].detach().numpy()))
        for chunk in range(1, length // 2):
            rows = order[0, 0, 0, 2 * chunk : 2 * chunk + 2]
            assert torch.equal(count[0, 0, 0, chunk].long(), times[rows][:, windows[0, 0, 0, chunk]])


def test_flops_grow_like_n_and_with_rounds() -> None:
    def cost(length: int, rounds: int) -> int:
        return Reformer.cost(
            length, 64, 2, head_dim=32, num_hashes=rounds, num_buckets=32, chunk_size=64
        ).flops

    assert cost(4096, 4) == 4 * cost(1024, 4)
    assert cost(4096, 3) - cost(4096, 2) == cost(4096, 2) - cost(4096, 1)
