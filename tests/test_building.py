"""parameter_match: the layers of a variant have the Transformer's number of parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from harness import toy_protocol
from torch import nn

from lra_bench import registry
from lra_bench.building import build_encoder, build_model, matched_ffn_dim, model_options
from lra_bench.cell import resolve_cell
from lra_bench.errors import OptionError, UsageError
from lra_bench.protocol import Architecture

LENGTH = 64


def architecture(**changes: Any) -> Architecture:
    return toy_protocol().settings("x").architecture.model_copy(update={"dim": 32, "ffn_dim": 128, **changes})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("linformer", {"rank": 16}),
        ("symmetric", {}),
        ("longformer", {}),
        ("performer", {}),
    ],
)
def test_layers_have_as_many_parameters(name: str, given: dict[str, Any]) -> None:
    options = {option.name: option.default for option in model_options(registry.models.get(name)).values()}
    del options["parameter_match"]
    options.update(given)
    entry, shape = registry.models.get(name), architecture()
    target = count(build_encoder(registry.models.get("transformer"), {}, shape, LENGTH))
    width = matched_ffn_dim(entry, options, shape, LENGTH)
    matched = count(build_encoder(entry, options, shape.model_copy(update={"ffn_dim": width}), LENGTH))
    per_unit = (2 * 32 + 1) * shape.num_layers
    assert target - 20 * per_unit < matched <= target


def test_only_the_layers_change() -> None:
    cells = [
        resolve_cell("symmetric", "recall", device="cpu", assignments={"model.parameter_match": match})
        for match in (False, True)
    ]
    built = []
    for cell in cells:
        with torch.device("meta"):
            built.append(
                build_model(
                    cell.model_entry,
                    cell.model_options,
                    cell.settings.architecture,
                    cell.build_task().spec,
                )
            )
    plain, matched = ({name: p.shape for name, p in one.named_parameters()} for one in built)
    changed = {name for name in plain if plain[name] != matched[name]}
    assert changed
    assert all(".ffn." in name for name in changed)
    assert cells[0].run_id != cells[1].run_id


def test_no_width_that_matches() -> None:
    """GroupBERT's convolution alone has more parameters than a small feed-forward could give back."""
    with pytest.raises(OptionError, match="no width brings them together"):
        matched_ffn_dim(registry.models.get("groupbert"), {}, architecture(), LENGTH)


def test_no_feed_forward_to_match_with() -> None:
    entry = registry.models.get("star_transformer")
    with pytest.raises(OptionError, match="no feed-forward"):
        matched_ffn_dim(entry, {}, architecture(), LENGTH)


def test_controls_have_no_such_option() -> None:
    with pytest.raises(UsageError, match="has no option 'parameter_match'"):
        resolve_cell("bag_of_tokens", "recall", device="cpu", assignments={"model.parameter_match": True})
