"""Star-Transformer: its limit, what reaches what in how many cycles, and whether it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lra_bench.mixer import mask_from_lengths
from lra_bench.models.sparse.star_transformer import StarTransformer
from lra_bench.protocol import Architecture
from lra_bench.validation.subject import Sizes


def architecture(num_layers: int, **changes: Any) -> Architecture:
    sizes = Sizes(dim=24, num_heads=3, head_dim=8, num_layers=num_layers)
    return sizes.architecture().model_copy(update=changes)


def build(num_layers: int = 1, **options: Any) -> StarTransformer:
    torch.manual_seed(0)
    return StarTransformer(architecture(num_layers), max_length=64, **options).double().eval()


def reach(encoder: StarTransformer, length: int) -> torch.Tensor:
    """(length, length) bool: does changing token j change the output at token i?"""
    torch.manual_seed(1)
    x = torch.randn(1, length, 24, dtype=torch.float64)
    telling = torch.randn(24, dtype=torch.float64)  # the plain sum of what is normalised is constant
    jacobian = torch.autograd.functional.jacobian(lambda tokens: (encoder(tokens)[0] @ telling)[0], x)
    return jacobian[:, 0].abs().sum(-1) > 1e-9


def test_three_tokens_in_a_ring_are_softmax_attention(evidence: Callable[..., None]) -> None:
    """Each of three tokens then sees all of them: with no relay, attention over [H; e_i]."""
    encoder = build(relay=False)
    x = 3 * torch.randn(2, 3, 24, dtype=torch.float64)
    attention = encoder.satellites[0]
    query, key, value = (part.transpose(1, 2) for part in attention.project(x))  # (b, h, n, e)
    rows = []
    for i in range(3):
        # In the first cycle e_i is h_i, which so counts twice.
        bias = torch.zeros(3, dtype=torch.float64)
        bias[i] = torch.log(torch.tensor(2.0, dtype=torch.float64))
        rows.append(F.scaled_dot_product_attention(query[:, :, i : i + 1], key, value, attn_mask=bias[None]))
    mixed = torch.cat(rows, dim=2).transpose(1, 2)
    expected = attention.update(x, mixed, residual=False)
    error = float(((encoder(x)[0] - expected).abs().max() / expected.abs().max()).detach())
    assert error < 1e-12
    evidence(
        "star_transformer", "identity", {"what": "three tokens in a ring, softmax attention", "error": error}
    )


@pytest.mark.parametrize("cycles", [1, 2, 3])
@pytest.mark.parametrize("ring", ["circular", "open", "none"])
def test_without_relay_tokens_reach_one_neighbour_a_cycle(cycles: int, ring: str) -> None:
    length = 11
    place = torch.arange(length)
    distance = (place[:, None] - place).abs()
    if ring == "circular":
        distance = torch.minimum(distance, length - distance)
    expected = distance <= (0 if ring == "none" else cycles)
    assert torch.equal(reach(build(cycles, ring=ring, relay=False), length), expected)


def test_relay_reaches_everything_in_one_cycle() -> None:
    assert reach(build(), 11).all()


def test_every_cycles_relay_reaches_the_output() -> None:
    encoder = build(3)
    (encoder(torch.randn(2, 9, 24, dtype=torch.float64))[0] * torch.randn(24)).sum().backward()
    for attention in encoder.relays:
        assert attention.output_projection.weight.grad.abs().max() > 1e-6


def test_ring_closes_at_the_last_real_token() -> None:
    encoder = build(relay=False)
    x = torch.randn(2, 9, 24, dtype=torch.float64)
    mask = mask_from_lengths(torch.tensor([9, 5]), 9)
    changed = x.clone()
    changed[1, 4] += 1  # the last real token of the second row
    with torch.no_grad():
        difference = (encoder(changed, mask)[0] - encoder(x, mask)[0]).abs().amax(dim=-1)[1, :5]
    assert torch.equal(difference > 1e-9, torch.tensor([True, False, False, True, True]))


def test_attention_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    encoder = StarTransformer(architecture(1, attention_dropout=0.5), max_length=64)
    x = torch.randn(2, 9, 24)
    assert not torch.equal(encoder.train()(x)[0], encoder(x)[0])
    assert torch.equal(encoder.eval()(x)[0], encoder(x)[0])


@pytest.mark.parametrize("num_layers", [2, 4])
@pytest.mark.parametrize("residual", [False, True])
def test_gradients_of_all_cycles_are_of_one_size(num_layers: int, residual: bool) -> None:
    torch.manual_seed(0)
    encoder = StarTransformer(architecture(num_layers), max_length=256, residual=residual)
    (encoder(torch.randn(8, 256, 24))[0] * torch.randn(24)).mean(1).square().mean().backward()
    norms = [float(attention.input_projection.weight.grad.norm()) for attention in encoder.satellites]
    assert max(norms) < 30 * min(norms)


@pytest.mark.parametrize(("num_layers", "residual"), [(2, False), (2, True), (4, True)])
def test_learns_to_tell_rows_with_a_marked_pair(num_layers: int, residual: bool) -> None:
    """The neighbours see whether two marks stand together, the relay carries it to the mean."""
    torch.manual_seed(0)
    encoder = StarTransformer(architecture(num_layers), max_length=64, residual=residual)
    head = torch.nn.Linear(24, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for _ in range(150):
        label = torch.randint(2, (32,))
        x = torch.randn(32, 16, 24) / 2
        start = torch.randint(0, 12, (32,))
        x[torch.arange(32), start] += 3 * torch.eye(24)[0]
        x[torch.arange(32), start + 1 + 2 * (1 - label)] += 3 * torch.eye(24)[1]
        loss = F.cross_entropy(head(encoder(x)[0].mean(1)), label)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 20 * 0.35, "chance is 0.69"


def test_cost_grows_with_length() -> None:
    costs = [StarTransformer.cost(length, architecture(2)) for length in (1024, 4096)]
    assert costs[1].flops < 4 * costs[0].flops
    assert costs[1].activation_bytes < 4 * costs[0].activation_bytes
