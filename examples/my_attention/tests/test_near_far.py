"""The mixer against its formula, written a second time: loops over tokens, in float64."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from my_attention.near_far import NearFar
from torch import Tensor

from lra_bench.errors import OptionError

WIDTH, HEADS, LENGTH = 8, 2, 11


def mixer(window: int) -> NearFar:
    torch.manual_seed(0)
    built = NearFar(WIDTH, HEADS, window=window, head_dim=WIDTH // HEADS, max_length=LENGTH)
    return built.double().eval()


def expected(built: NearFar, x: Tensor, real: int) -> Tensor:
    """One sequence of `real` tokens, (n, d) -> (real, d)."""
    q, k, v = built.input_projection(x[:real]).chunk(3, dim=-1)  # heads don't meet: no need to split them
    weight, radius = k.sigmoid(), built.window // 2
    rows = []
    for i in range(real):
        window = range(max(i - radius, 0), min(i + radius + 1, real))
        near = sum(weight[j] * v[j] for j in window) / sum(weight[j] for j in window)
        far = sum(weight[j] * v[j] for j in range(real)) / sum(weight[j] for j in range(real))
        gate = q[i].sigmoid()
        rows.append(gate * near + (1 - gate) * far)
    return built.output_projection(torch.stack(rows))


@pytest.mark.parametrize("window", [1, 3, 2 * LENGTH + 1])
def test_it_is_its_formula_with_and_without_padding(window: int) -> None:
    built, x = mixer(window), torch.randn(2, LENGTH, WIDTH, dtype=torch.float64)
    lengths = (LENGTH, 4)
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    found = built(x, mask)
    for row, real in enumerate(lengths):
        torch.testing.assert_close(found[row, :real], expected(built, x[row], real))
    torch.testing.assert_close(built(x)[0], found[0])


def test_a_window_has_a_middle() -> None:
    with pytest.raises(OptionError, match="window=4"):
        mixer(4)


def test_the_proof_of_the_registry_holds() -> None:
    command = [sys.executable, "-m", "lra_bench", "validate", "my_attention.near_far:NearFar"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
