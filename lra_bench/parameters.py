"""Counts parameters in three parts, so that position tables don't hide what a mixer adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from lra_bench.building import build_model
from lra_bench.data.task import TaskSpec
from lra_bench.encoder import Embedding
from lra_bench.protocol import Architecture
from lra_bench.registry import Entry
from lra_bench.shapes import shapes_only


@dataclass(frozen=True)
class Parameters:
    """Numbers of trainable parameters."""

    embedding: int
    """Token and position tables."""
    length_dependent: int
    """Of the mixers: those whose size follows the longest length."""
    core: int
    """All others."""


def count_parameters(
    entry: Entry, options: Mapping[str, Any], architecture: Architecture, spec: TaskSpec
) -> Parameters:
    """Builds the model on the meta device for its length and for twice that; what grows depends on length."""
    with shapes_only():
        model = build_model(entry, options, architecture, spec)
        longer = build_model(entry, options, architecture, replace(spec, max_length=2 * spec.max_length))
    sizes, longer_sizes = _sizes(model), _sizes(longer)
    embedding = {
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        if isinstance(module, Embedding)
        for name, _ in module.named_parameters()
    }
    counts = {"embedding": 0, "length_dependent": 0, "core": 0}
    for name, size in sizes.items():
        if name in embedding:
            counts["embedding"] += size
        elif longer_sizes.get(name) != size:
            counts["length_dependent"] += size
        else:
            counts["core"] += size
    return Parameters(**counts)


def _sizes(model: nn.Module) -> dict[str, int]:
    return {
        name: parameter.numel() for name, parameter in model.named_parameters() if parameter.requires_grad
    }
