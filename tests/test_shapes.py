"""Models without memory and without values, and what a short command need not import."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from lra_bench.bench.plan import match_networks
from lra_bench.building import build_model
from lra_bench.cell import resolve_cell
from lra_bench.shapes import shapes_only

QUICK = """
import sys
from lra_bench.cell import resolve_cell
resolve_cell("bigbird", "listops", device="cpu")
slow = {"torch._dynamo", "datasets", "pandas"} & set(sys.modules)
assert not slow, slow
"""


@pytest.mark.parametrize("name", [entry.name for entry in match_networks(None)])
def test_shapes_are_those_of_the_model_itself(name: str) -> None:
    cell = resolve_cell(name, "recall", device="cpu")
    parts = (cell.model_entry, cell.model_options, cell.settings.architecture, cell.build_task().spec)
    with shapes_only():
        empty = build_model(*parts)
    full = build_model(*parts)
    assert {key: (value.shape, value.dtype) for key, value in empty.state_dict().items()} == {
        key: (value.shape, value.dtype) for key, value in full.state_dict().items()
    }
    assert all(parameter.device.type == "meta" for parameter in empty.parameters())


def test_only_what_has_no_values_is_left_undrawn() -> None:
    with shapes_only():
        weight = torch.zeros(8, 8, device="cpu")
        nn.init.normal_(weight)
        assert weight.std() > 0.1
        assert nn.init.uniform_(tensor := torch.empty(3)) is tensor


def test_resolving_a_cell_imports_neither_compiler_nor_data_libraries() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", QUICK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
