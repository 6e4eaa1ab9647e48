"""Compressive Transformer: its limits, which loss teaches what, and the reconstruction loss itself."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from references.compressive import reconstruction_loss
from torch import Tensor

from lra_bench.encoder import auxiliary_losses
from lra_bench.mixer import mask_from_lengths
from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.memory.compressive import Compressive
from lra_bench.models.memory.transformer_xl import TransformerXL

SHORT = {"segment_length": 4, "memory_length": 4, "compressed_length": 3, "compression_rate": 2}
OWN = ("compression.weight", "compression.bias")


def build(kind: type[Compressive] = Compressive, **options: Any) -> Compressive:
    torch.manual_seed(0)
    return kind(24, 3, head_dim=8, max_length=64, **{**SHORT, **options}).double()


def tokens(length: int, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(2, length, 24, dtype=torch.float64)


def gradients(mixer: Compressive, x: Tensor, *, main: bool = True, extra: bool = True) -> dict[str, Tensor]:
    """Of the parameters and of the input, by name; zero where there is none."""
    mixer.train().zero_grad()
    x = x.clone().requires_grad_()
    loss = main * (mixer(x) * tokens(x.shape[1], 2)).sum()
    if extra:
        assert mixer.auxiliary_loss is not None
        loss = loss + mixer.auxiliary_loss
    loss.backward()
    named = {"x": x, **dict(mixer.named_parameters())}
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in named.items()
    }


def test_one_plain_segment_is_softmax_attention(evidence: Callable[[str, str, Any], None]) -> None:
    mixer = build(segment_length=20, relative_positions=False)
    exact = Transformer(24, 3, head_dim=8, max_length=64).double()
    exact.load_state_dict(mixer.state_dict(), strict=False)
    expected = exact(tokens(19))
    error = float((mixer(tokens(19)) - expected).abs().max() / expected.abs().max())
    assert error < 1e-12
    evidence("compressive", "identity", {"what": "one segment, plain scores: softmax", "error": error})


@pytest.mark.parametrize("options", [{"compressed_length": 0}, {"memory_length": 64}])
def test_without_slots_it_is_transformer_xl(options: dict[str, int]) -> None:
    mixer = build(**options)
    plain = TransformerXL(
        24, 3, head_dim=8, max_length=64, segment_length=4, memory_length=mixer.memory_length
    ).double()
    plain.load_state_dict({name: value for name, value in mixer.state_dict().items() if name not in OWN})
    torch.testing.assert_close(mixer(tokens(22)), plain(tokens(22)))


def test_slots_of_one_token_are_a_longer_memory() -> None:
    """A mean over one token compresses nothing: then the slots are memory."""
    mixer = build(compression_rate=1, compressed_length=6, compressor="mean")
    longer = TransformerXL(24, 3, head_dim=8, max_length=64, segment_length=4, memory_length=10).double()
    longer.load_state_dict(mixer.state_dict())
    torch.testing.assert_close(mixer(tokens(22)), longer(tokens(22)))


def test_reaches_back_over_memory_and_slots() -> None:
    mixer = build()
    x = tokens(24)[:1]
    with torch.no_grad():
        changed = [(mixer(x.index_fill(1, torch.tensor([j]), 7.0)) - mixer(x)).abs() for j in range(24)]
    reached = torch.stack([rows[0].amax(-1) > 1e-9 for rows in changed], dim=1)
    place = torch.arange(24)
    start = place // 4 * 4
    expected = (place >= (start - 4 - 3 * 2)[:, None]) & (place < (start + 4)[:, None])
    assert torch.equal(reached, expected)


@pytest.mark.parametrize("lengths", [(24, 24), (24, 13), (24, 6), (22, 3), (9, 9)], ids=str)
@pytest.mark.parametrize("memory_length", [0, 2, 4, 6])
def test_reconstruction_loss_is_the_references(lengths: tuple[int, int], memory_length: int) -> None:
    mixer = build(memory_length=memory_length, reconstruction_weight=0.7).train()
    x = 2 * tokens(max(lengths))
    mask = mask_from_lengths(torch.tensor(lengths), max(lengths))
    padded = torch.where(mask[..., None], x, 100 * x)
    mixer(padded, None if mask.all() else mask)
    expected = reconstruction_loss(mixer, [x[row, :length].numpy() for row, length in enumerate(lengths)])
    assert mixer.auxiliary_loss is not None
    assert float(mixer.auxiliary_loss) == pytest.approx(expected, rel=1e-9)


def test_each_loss_teaches_its_own() -> None:
    mixer, x = build(), tokens(24)
    main, extra = gradients(mixer, x, extra=False), gradients(mixer, x, main=False)
    for name in main:
        taught, untouched = (extra, main) if name in OWN else (main, extra)
        assert taught[name].abs().max() > 1e-6, name
        assert not untouched[name].any(), name


def frozen_after_the_loss(mixer: Compressive) -> bool:
    """Whether a backward pass of both losses leaves projections that learn no more or otherwise."""
    x = tokens(24)
    main, both = gradients(mixer, x, extra=False), gradients(mixer, x)
    weight = mixer.input_projection.weight
    return not (
        weight.requires_grad and torch.equal(main["input_projection.weight"], both["input_projection.weight"])
    )


class Freezing(Compressive):
    """The fault of compressive-transformer-pytorch 0.4.0: `detach_` on the parameter."""

    def reconstruction(self, *arguments: Any) -> Tensor:
        self.input_projection.weight.detach_()
        return super().reconstruction(*arguments)


class Unstopped(Compressive):
    """The loss reaches the projections."""

    def project_hidden(self, x: Tensor, frozen: bool = False) -> tuple[Tensor, Tensor]:
        return super().project_hidden(x)


def test_projections_keep_learning() -> None:
    assert not frozen_after_the_loss(build())
    assert frozen_after_the_loss(build(Freezing))
    assert frozen_after_the_loss(build(Unstopped))


def test_without_its_loss_the_compressor_learns_from_the_models() -> None:
    mixer = build(reconstruction_loss=False)
    found = gradients(mixer, tokens(24), extra=False)
    assert mixer.auxiliary_loss is None
    assert all(found[name].abs().max() > 1e-6 for name in OWN)


@pytest.mark.parametrize("reconstruction", [True, False])
def test_no_gradient_to_what_a_segment_remembers(reconstruction: bool) -> None:
    mixer = build(reconstruction_loss=reconstruction).train()
    x = tokens(24).requires_grad_()
    mixer(x)[:, 20:].sum().backward()
    assert x.grad is not None
    assert not x.grad[:, :20].any()
    assert x.grad[:, 20:].any()


def test_loss_falls_when_only_the_compressor_is_trained() -> None:
    mixer, x = build().train(), tokens(24)
    before = {name: value.clone() for name, value in mixer.named_parameters()}
    optimizer = torch.optim.Adam(mixer.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        mixer(x)
        loss = auxiliary_losses(mixer)[0]
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
    for name, value in mixer.named_parameters():
        assert torch.equal(value, before[name]) == (name not in OWN), name


def test_there_is_a_loss_only_where_there_is_something_to_learn() -> None:
    mixer = build().train()
    mixer(tokens(24))
    assert mixer.auxiliary_loss is not None
    mixer(tokens(4))  # nothing has left the memory
    assert mixer.auxiliary_loss is None
    mixer(tokens(24))
    with torch.no_grad():
        mixer(tokens(24))
    assert mixer.auxiliary_loss is None
    mixer(tokens(24))
    mixer.eval()(tokens(24))
    assert mixer.auxiliary_loss is None
    for options in ({"compressor": "mean"}, {"compressed_length": 0}, {"reconstruction_loss": False}):
        other = build(**options).train()
        other(tokens(24))
        assert other.auxiliary_loss is None


def test_a_row_without_tokens_leaves_the_loss_finite() -> None:
    mixer = build().train()
    mixer(tokens(24), mask_from_lengths(torch.tensor([0, 0]), 24))
    assert mixer.auxiliary_loss is not None
    mixer.auxiliary_loss.backward()
    assert float(mixer.auxiliary_loss) == 0
    assert all(value.grad is None or value.grad.isfinite().all() for value in mixer.parameters())


def test_copies_and_pickles_after_a_training_pass() -> None:
    mixer = build().train()
    expected = mixer(tokens(24))
    for twin in (copy.deepcopy(mixer), pickle.loads(pickle.dumps(mixer))):
        assert twin.auxiliary_loss is None
        assert torch.equal(twin(tokens(24)), expected)
    assert mixer.auxiliary_loss is not None


def test_cost_of_a_slot_is_that_of_a_token_in_memory() -> None:
    options = {"head_dim": 32, "compressor": "mean", "relative_positions": False}

    def flops(memory_length: int, compressed_length: int) -> int:
        return Compressive.cost(
            4096, 64, 2, memory_length=memory_length, compressed_length=compressed_length, **options
        ).flops

    attention = 4 * 4096 * 64 * 64
    slots = 4 * (4096 - 128 - 128) // 4 * 64 * 64  # keys and values of all of them
    assert flops(128, 64) - flops(128, 0) == attention + slots
    assert flops(192, 0) - flops(128, 0) == attention
