"""What is known of a cell before anything runs: its parameters, and how much memory a step will need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lra_bench import registry
from lra_bench.bench.records import REFERENCE
from lra_bench.data.task import TaskSpec
from lra_bench.parameters import count_parameters
from lra_bench.protocol import Architecture, Settings
from lra_bench.records import StepMode
from lra_bench.registry import Entry

ELEMENT_BYTES = 4
PASSING_LAYERS = 2
"""What is alive in backward beside what was kept, in units of one layer's: the gradient that comes in and the
one that goes out. Right for the explicit matrix, whose softmax is the largest case; else too much."""
FORWARD_LAYERS = 1.5
"""The same for inference, where one layer's tensors die as the next one's are made."""


def describe_cell(
    entry: Entry, options: Mapping[str, Any], settings: Settings, spec: TaskSpec, mode: StepMode
) -> dict[str, Any]:
    """Family, parameters with their ratio to the Transformer's, and the predicted peak; takes no memory.

    Raises:
        OptionError: the model can't be built for this length.
    """
    own = count_parameters(entry, options, settings.architecture, spec)
    base = count_parameters(registry.models.get(REFERENCE), {}, settings.architecture, spec)
    predicted = predicted_peak_bytes(
        entry,
        options,
        settings.architecture,
        num_parameters=own.embedding + own.length_dependent + own.core,
        length=spec.max_length,
        batch_size=settings.budget.batch_size,
        mode=mode,
    )
    return {
        "family": entry.family,
        "parameters": asdict(own),
        "parameter_ratio": (own.core + own.length_dependent) / (base.core + base.length_dependent),
        "predicted_bytes": predicted,
    }


def predicted_peak_bytes(
    entry: Entry,
    options: Mapping[str, Any],
    architecture: Architecture,
    *,
    num_parameters: int,
    length: int,
    batch_size: int,
    mode: StepMode,
) -> int | None:
    """Peak of a step in fp32: state, gradients, what backward needs kept, and what passes; None without a
    closed form.

    A guard's estimate: rather too high, as it counts no reuse, and for lower precision the same.
    """
    target = entry.load()
    if not hasattr(target, "cost"):
        return None
    shape = architecture
    if entry.kind == "encoder":
        # The shell of each layer is in the closed form already.
        total: float = target.cost(length, shape, **options).activation_bytes
        per_layer: float = total / shape.num_layers
    else:
        cost = target.cost(
            length,
            shape.dim,
            shape.num_heads,
            head_dim=shape.head_dim,
            max_length=length,
            **options,
        )
        per_layer = cost.activation_bytes + shell_bytes(shape, length)
        total = per_layer * shape.num_layers
    parameter_bytes = ELEMENT_BYTES * num_parameters
    if mode == "forward":
        return round(parameter_bytes + batch_size * FORWARD_LAYERS * per_layer)
    # Parameters, gradients and AdamW's two moments.
    return round(4 * parameter_bytes + batch_size * (total + PASSING_LAYERS * per_layer))


def shell_bytes(architecture: Architecture, length: int) -> int:
    """What one standard block keeps for one sequence around its mixer: both norms' inputs with their two
    statistics, the second norm's output, and both sides of GELU. Dropout adds its masks."""
    dim, ffn_dim = architecture.dim, architecture.ffn_dim
    elements = 2 * (dim + 2) + dim + 2 * ffn_dim
    mask_bytes = (2 * dim + ffn_dim) if architecture.dropout else 0
    return length * (ELEMENT_BYTES * elements + mask_bytes)
