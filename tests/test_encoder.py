"""The network around the mixer: masks, pooling, positions, the dual encoder, whole encoders, seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from harness import toy_protocol
from torch import Tensor, nn

from lra_bench import registry
from lra_bench.building import build_model
from lra_bench.data.batches import BatchSource
from lra_bench.data.prepare import prepare
from lra_bench.data.task import TaskSpec
from lra_bench.encoder import (
    SequenceClassifier,
    auxiliary_losses,
    masked_mean,
    sinusoidal_positions,
)
from lra_bench.errors import OptionError
from lra_bench.parameters import count_parameters
from lra_bench.protocol import Architecture
from lra_bench.tasks.pathfinder import Pathfinder

SPEC = TaskSpec(
    task="toy",
    dataset="toy",
    variant="",
    num_classes=3,
    vocabulary=tuple("abcdefgh"),
    pad_id=7,
    max_length=12,
    fixed_length=False,
    chance=1 / 3,
)
MIXERS = [entry.name for entry in registry.models if entry.kind == "mixer"]


def architecture(**changes: Any) -> Architecture:
    return toy_protocol().settings("x").architecture.model_copy(update=changes)


def build(name: str = "transformer", spec: TaskSpec = SPEC, seed: int = 0, **changes: Any) -> nn.Module:
    entry = registry.models.get(name)
    torch.manual_seed(seed)
    return build_model(entry, {}, architecture(dropout=0.0, **changes), spec).eval()


def ids(*lengths: int, width: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(0, 7, (len(lengths), width), generator=generator)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    return input_ids.where(mask, 7), mask


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("name", MIXERS)
def test_padding_changes_nothing(name: str, pooling: str) -> None:
    """Neither what stands at padding nor how much of it: the whole classifier, not just the mixer."""
    model = build(name, pooling=pooling)
    input_ids, mask = ids(5, 12, 1)
    logits = model(input_ids, mask)
    torch.testing.assert_close(model(input_ids.where(mask, 3), mask), logits, rtol=1e-4, atol=1e-5)
    if registry.models.get(name).padding_invariant:
        alone = model(input_ids[:1, :5], None)
        torch.testing.assert_close(alone, logits[:1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(input_ids.where(~mask, 3), mask), logits), "real tokens do matter"


@pytest.mark.parametrize("name", MIXERS)
def test_a_black_pixel_is_a_pixel(name: str, tmp_path: Path) -> None:
    """The original took a mask from values, so that pixel 0 was invisible. A change between 0 and 255
    at a pixel must reach the logits, and a batch of images has no mask at all."""
    task = Pathfinder()
    source = BatchSource(prepare(_Few(task), "train", 4, root=tmp_path), task.spec)
    batch = source.batch(np.arange(4))
    assert batch.mask is None
    assert (batch.input_ids == 0).any()
    model = build(name, task.spec)
    black = batch.input_ids == 0
    inverted = batch.input_ids.where(~black, 255)
    assert not torch.allclose(model(inverted, None), model(batch.input_ids, None))


class _Few:
    """Pathfinder in shards of four, to draw four images and not four thousand."""

    def __init__(self, task: Pathfinder) -> None:
        self._task = task
        self.shard_size = 4

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def test_mean_is_over_real_tokens_only() -> None:
    x = torch.tensor([[[1.0], [3.0], [float("inf")]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert masked_mean(x, mask).flatten().tolist() == [2.0, 4.0]
    assert masked_mean(x[1:], None).item() == 4.0


def test_sinusoidal_positions_by_hand() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) = cos of the same."""
    table = sinusoidal_positions(5, 4)
    angle = 3 / 10_000 ** (2 / 4)
    expected = [math.sin(3), math.cos(3), math.sin(angle), math.cos(angle)]
    assert table[3].tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(OptionError, match="even width"):
        sinusoidal_positions(5, 3)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_order_matters_through_positions(positions: str) -> None:
    model = build(positions=positions)
    input_ids, _ = ids(12)
    assert not torch.allclose(model(input_ids, None), model(input_ids.flip(1), None))


def test_cls_is_one_more_position() -> None:
    model = build(pooling="cls")
    assert model.sequence_encoder.embedding.positions.shape == (13, 8)
    x = model.sequence_encoder.embedding(ids(12)[0])
    assert x.shape == (1, 13, 8)


def test_the_classifier_by_hand() -> None:
    """One layer, written out again with plain tensor operations."""
    model = build()
    assert isinstance(model, SequenceClassifier)
    input_ids, mask = ids(7, 12)
    weights = {name: value.double() for name, value in model.state_dict().items()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    expected = []
    for row, length in zip(input_ids, (7, 12), strict=True):
        embedding = "sequence_encoder.embedding"
        x = weights[f"{embedding}.tokens.weight"][row[:length]]
        x = x + weights[f"{embedding}.positions"][:length]
        block = "sequence_encoder.encoder.blocks.0"
        projected = linear(f"{block}.mixer.input_projection", norm(f"{block}.mixer_norm", x))
        query, key, value = (part.reshape(length, 2, 4).transpose(0, 1) for part in projected.chunk(3, -1))
        attention = (query @ key.transpose(1, 2) / 2.0).softmax(-1) @ value
        x = x + linear(f"{block}.mixer.output_projection", attention.transpose(0, 1).reshape(length, 8))
        hidden = linear(f"{block}.ffn.0", norm(f"{block}.ffn_norm", x))
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + linear(f"{block}.ffn.3", hidden)
        pooled = norm("sequence_encoder.encoder.norm", x).mean(0)
        expected.append(linear("head.2", linear("head.0", pooled).clamp(min=0)))
    logits = model(input_ids, mask).double()
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_pairs_share_one_encoder_and_the_head_sees_four_parts() -> None:
    model = build(spec=replace(SPEC, paired=True))
    first, mask = ids(5, 12)
    second, mask_2 = ids(9, 3)
    logits = model(first, mask, second, mask_2)
    encode = model.sequence_encoder
    x, y = encode(first, mask), encode(second, mask_2)
    torch.testing.assert_close(logits, model.head(torch.cat([x, y, x * y, x - y], -1)))
    assert not torch.allclose(logits, model(second, mask_2, first, mask)), "the difference has a sign"


def test_the_head_of_the_2020_code_sees_two_parts() -> None:
    paired = replace(SPEC, paired=True)
    model = build(spec=paired, pair_head="concatenation")
    (a, mask_a), (b, mask_b) = ids(12, 5), ids(3, 12)
    first, second = model.sequence_encoder(a, mask_a), model.sequence_encoder(b, mask_b)
    assert model.head[0].in_features == 2 * first.shape[1]
    with torch.no_grad():
        expected = model.head(torch.cat([first, second], dim=1))
        torch.testing.assert_close(model(a, mask_a, b, mask_b), expected)
    assert build(spec=paired, pair_head="interaction").head[0].in_features == 4 * first.shape[1]


@pytest.mark.parametrize("std", [0.02, 1.0])
def test_token_vectors_start_as_wide_as_asked(std: float) -> None:
    wide = replace(SPEC, vocabulary=tuple(map(str, range(5_000))))
    model = build(spec=wide, embedding_std=std, positions="learned")
    found = float(model.sequence_encoder.embedding.tokens.weight.detach().std())
    assert found == pytest.approx(std, rel=0.03)
    assert float(model.sequence_encoder.embedding.positions.detach().std()) == pytest.approx(0.02, rel=0.3)


class TwoTrunks(nn.Module):
    """A whole encoder, as for models that change the layer."""

    card: ClassVar = {"kind": "encoder", "summary": "Doubles its input."}

    def __init__(self, architecture: Architecture, *, max_length: int, factor: float = 2.0) -> None:
        super().__init__()
        self.scale = nn.Linear(architecture.dim, architecture.dim)
        self.factor = factor
        self.auxiliary_loss: Tensor | None = None

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self.factor * self.scale(x)
        self.auxiliary_loss = x.square().mean()
        return x, mask


def test_a_whole_encoder_and_its_auxiliary_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.Entry("two", "encoder", "x:y", "A test.")
    monkeypatch.setattr(registry.Entry, "load", lambda self: TwoTrunks)
    model = build_model(entry, {"factor": 3.0}, architecture(), SPEC)
    assert auxiliary_losses(model) == []
    assert model(*ids(5, 12)).shape == (2, 3)
    assert len(auxiliary_losses(model)) == 1


def test_length_dependent_parameters_are_told_apart() -> None:
    """Linformer's E is rank x length; positions and tokens are embedding; by hand for one layer."""
    entry = registry.models.get("linformer")
    options = {"rank": 6, "sharing": "key_value"}
    counted = count_parameters(entry, options, architecture(), SPEC)
    assert counted.length_dependent == 6 * 12
    assert counted.embedding == 8 * 8 + 12 * 8
    base = count_parameters(registry.models.get("transformer"), {}, architecture(), SPEC)
    assert counted.core == base.core
    assert base.length_dependent == 0


@pytest.mark.parametrize("name", MIXERS)
def test_same_seed_same_weights(name: str) -> None:
    first, second, other = (build(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
