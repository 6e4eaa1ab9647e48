"""Planted faults: for each, the comparison of the main suite must fail.

A fault is a subclass of the shipped mixer with one thing wrong. A comparison that lets one of them
through would let the same mistake through in the shipped code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from references.cases import DIM, HEAD_DIM, MAX_LENGTH, NUM_HEADS, PROOFS
from references.comparison import assert_matches_reference

from lra_bench.mixer import MultiHeadMixer
from lra_bench.models.kernel import linear_transformer as linear_transformer_module
from lra_bench.registry import models


class WrongScale(MultiHeadMixer):
    """1 / e for 1 / sqrt(e)"""

    def attend(self, query, key, value, mask):
        return super().attend(query / math.sqrt(self.head_dim), key, value, mask)


class NoScale(MultiHeadMixer):
    """1 for 1 / sqrt(e)"""

    def attend(self, query, key, value, mask):
        return super().attend(query * math.sqrt(self.head_dim), key, value, mask)


class ScaleOfDim(MultiHeadMixer):
    """1 / sqrt(d) for 1 / sqrt(e)"""

    def attend(self, query, key, value, mask):
        return super().attend(query * math.sqrt(self.head_dim / self.dim), key, value, mask)


class NoMask(MultiHeadMixer):
    """padding takes part"""

    def attend(self, query, key, value, mask):
        return super().attend(query, key, value, None)


class MaskOneTooMany(MultiHeadMixer):
    """the first pad counts as real"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            mask = mask | mask.roll(1, dims=1)
        return super().attend(query, key, value, mask)


class MaskOneTooFew(MultiHeadMixer):
    """the last real token counts as a pad"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            # Rows of one token stay as they are: they would have nothing left.
            shorter = mask & mask.roll(-1, dims=1)
            mask = torch.where(shorter.any(dim=1, keepdim=True), shorter, mask)
        return super().attend(query, key, value, mask)


class HeadsMixedUp(MultiHeadMixer):
    """values of the neighbouring head"""

    def attend(self, query, key, value, mask):
        return super().attend(query, key, value.roll(1, dims=1), mask)


class HeadsSplitTheOtherWay(MultiHeadMixer):
    """(e, h) for (h, e)"""

    def project(self, x):
        parts = self.input_projection(x).chunk(3, dim=-1)
        return tuple(
            part.unflatten(-1, (self.head_dim, self.num_heads)).permute(0, 3, 1, 2) for part in parts
        )


class QueryForKey(MultiHeadMixer):
    """roles of query and key exchanged"""

    def attend(self, query, key, value, mask):
        return super().attend(key, query, value, mask)


class ValuesNotMasked(MultiHeadMixer):
    """Linformer: only the keys are zeroed before the projection"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            key = key.masked_fill(~mask[:, None, :, None], 0)
        unmasked = self.compress(value, self.E if self.F is None else self.F)
        return F.scaled_dot_product_attention(query, self.compress(key, self.E), unmasked)


class KeyProjectionForValues(MultiHeadMixer):
    """Linformer: E where F belongs"""

    def compress(self, x, projection):
        return super().compress(x, self.E)


class LastColumns(MultiHeadMixer):
    """Linformer: a short input takes the last columns of E, not the first"""

    def compress(self, x, projection):
        return super().compress(x, projection[..., -x.shape[2] :])


class OneProjectionForAllHeads(MultiHeadMixer):
    """Linformer: sharing none, and yet all heads use the first head's"""

    def compress(self, x, projection):
        if projection.dim() == 3:
            projection = projection[:1].expand_as(projection)
        return super().compress(x, projection)


class Strided(MultiHeadMixer):
    """Local: every n / w-th token forms a group, the fault of the 2020 release"""

    def _blocks(self, x):
        batch, heads, _, width = x.shape
        groups = x.transpose(1, 2).reshape(batch, self.block_size, -1, heads, width)
        return groups.transpose(1, 2).flatten(0, 1).transpose(1, 2)

    def attend(self, query, key, value, mask):
        mixed = super().attend(query, key, value, mask)  # in groups' order
        batch, heads, _, width = mixed.shape
        groups = mixed.transpose(1, 2).reshape(batch, -1, self.block_size, heads, width)
        return groups.transpose(1, 2).flatten(1, 2).transpose(1, 2)


class BlocksShifted(MultiHeadMixer):
    """Local: blocks begin one token late"""

    def attend(self, query, key, value, mask):
        shifted = (part.roll(-1, dims=2) for part in (query, key, value))
        mask = None if mask is None else mask.roll(-1, dims=1)
        return super().attend(*shifted, mask).roll(1, dims=2)


class InnerPaddingSeen(MultiHeadMixer):
    """Local: what fills up the last block is attended to"""

    def attend(self, query, key, value, mask):
        length = mask.shape[1] if mask is not None else 0
        if mask is not None and not mask[:, length - 1].any():
            mask = mask | mask[:, : length - length % self.block_size or None].any()
        return super().attend(query, key, value, mask)


class OneSided(MultiHeadMixer):
    """Local: looks back twice as far and not ahead"""

    def _windows(self, x):
        if not self.look_around:
            return super()._windows(x)
        return super()._windows(x.roll(self.look_around * self.block_size, dims=2))


class KeysNotPhiZeroed(MultiHeadMixer):
    """Linear: K is zeroed at pads instead of phi(K), and phi(0) is 1"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            key, value = (part.masked_fill(~mask[:, None, :, None], 0) for part in (key, value))
        return super().attend(query, key, value, None)


class NormaliserCountsPads(MultiHeadMixer):
    """Performer: values are masked but the normaliser is not"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            value = value.masked_fill(~mask[:, None, :, None], 0)
        return super().attend(query, key, value, None)


class NoHalfSquare(MultiHeadMixer):
    """Performer: exp(w x) without -|x|^2 / 2"""

    def log_features(self, x):
        return self.projected(x)


class WholeScaleOnEachSide(MultiHeadMixer):
    """Performer: 1 / sqrt(e) for query and key each"""

    def projected(self, x):
        return super().projected(x) * self.head_dim**-0.25


class ReluFeatures(MultiHeadMixer):
    """Performer: the 2020 release's ReLU features in place of the exponential ones"""

    def projected(self, x):
        return super().projected(x).relu().add(1e-3).log()

    def log_features(self, x):
        return self.projected(x)


class StabiliserSeesPads(MultiHeadMixer):
    """Performer: the maximum over keys includes padded ones, and shifts the features against eps"""

    def attend(self, query, key, value, mask):
        query_logs, key_logs = self.projected(query), self.log_features(key)
        query_features = (query_logs - query_logs.amax(-1, keepdim=True)).exp() + self.eps
        key_features = (key_logs - key_logs.amax((-2, -1), keepdim=True)).exp() + self.eps
        if mask is not None:
            key_features = key_features * mask[:, None, :, None]
        kernel = query_features @ key_features.transpose(-2, -1)
        return kernel @ value / kernel.sum(-1, keepdim=True)


def relu_for_elu(x, inplace):
    return F.relu(x)


def leaky_for_elu(x, inplace):
    return F.leaky_relu(x, 0.5)


@dataclass(frozen=True)
class Mutant:
    """A fault in a model, and options under which it shows."""

    model: str
    fault: type[MultiHeadMixer]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.model}-{self.fault.__name__}"


BASIC = [NoMask, MaskOneTooMany, MaskOneTooFew, HeadsMixedUp, HeadsSplitTheOtherWay, QueryForKey]
SCALES = [WrongScale, NoScale, ScaleOfDim]
OPTIONS = {"linformer": {"rank": 6}, "local": {"block_size": 5}, "performer": {"num_features": 16}}
MUTANTS = [
    *(
        Mutant(model, fault, OPTIONS.get(model, {}))
        for model in PROOFS
        # Linear attention has no scale; one before its feature map is a fault like another.
        for fault in [*BASIC, *SCALES]
    ),
    Mutant("linformer", ValuesNotMasked, {"rank": 6}),
    Mutant("linformer", KeyProjectionForValues, {"rank": 6, "sharing": "headwise"}),
    Mutant("linformer", KeyProjectionForValues, {"rank": 6, "sharing": "none"}),
    Mutant("linformer", LastColumns, {"rank": 6}),
    Mutant("linformer", OneProjectionForAllHeads, {"rank": 6, "sharing": "none"}),
    Mutant("local", Strided, {"block_size": 5}),
    Mutant("local", BlocksShifted, {"block_size": 5}),
    Mutant("local", InnerPaddingSeen, {"block_size": 5}),
    Mutant("local", OneSided, {"block_size": 5, "look_around": 1}),
    Mutant("linear_transformer", KeysNotPhiZeroed),
    Mutant("performer", NormaliserCountsPads, {"num_features": 16}),
    Mutant("performer", NoHalfSquare, {"num_features": 16}),
    Mutant("performer", WholeScaleOnEachSide, {"num_features": 16}),
    Mutant("performer", ReluFeatures, {"num_features": 16}),
    Mutant("performer", StabiliserSeesPads, {"num_features": 16, "eps": 0.1}),
]


def compare_as_the_suite_does(mixer: MultiHeadMixer, model: str) -> None:
    """A full batch and a padded one, as in test_registered_mixers."""
    assert_matches_reference(mixer, PROOFS[model].reference, [33, 33])
    assert_matches_reference(mixer, PROOFS[model].reference, [33, 20, 3, 1])


def build(model: str, fault: type[MultiHeadMixer] | None, options: dict[str, Any]) -> MultiHeadMixer:
    shipped = models.get(model).load()
    # The fault comes first in the order of resolution, so that its super() is the shipped class.
    kind = shipped if fault is None else type(fault.__name__, (fault, shipped), {})
    torch.manual_seed(0)
    return kind(DIM, NUM_HEADS, head_dim=HEAD_DIM, max_length=MAX_LENGTH, **options)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_fault_is_caught(mutant: Mutant) -> None:
    # Without the fault, the same options pass: it is the fault that is caught.
    compare_as_the_suite_does(build(mutant.model, None, mutant.options), mutant.model)
    faulty = build(mutant.model, mutant.fault, mutant.options)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare_as_the_suite_does(faulty, mutant.model)


@pytest.mark.parametrize("other", [relu_for_elu, leaky_for_elu])
def test_wrong_feature_map_is_caught(other: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Functions:
        pad = staticmethod(F.pad)
        elu = staticmethod(other)

    monkeypatch.setattr(linear_transformer_module, "F", Functions)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare_as_the_suite_does(build("linear_transformer", None, {}), "linear_transformer")
