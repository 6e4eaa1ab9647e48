"""Public implementations of the same methods, given our weights, give our output.

They are no dependency: each test skips where its package isn't installed.
"""

from __future__ import annotations

import functools
import math

import pytest
import torch

from lra_bench.mixer import TokenMixer, mask_from_lengths
from lra_bench.models.kernel.performer import Performer
from lra_bench.models.low_rank.linformer import Linformer
from lra_bench.models.sparse.local import Local

DIM, NUM_HEADS, HEAD_DIM, LENGTH = 24, 3, 8, 32


def build(kind: type[TokenMixer], **options: object) -> tuple[TokenMixer, list[torch.Tensor], torch.Tensor]:
    """A mixer whose projections have no bias, as the peers' have none; q, k, v weights; an input."""
    torch.manual_seed(0)
    mixer = kind(DIM, NUM_HEADS, head_dim=HEAD_DIM, max_length=LENGTH, **options).double().eval()
    torch.nn.init.zeros_(mixer.input_projection.bias)
    return mixer, list(mixer.input_projection.weight.chunk(3)), 2 * torch.randn(3, LENGTH, DIM).double()


def load(peer: torch.nn.Module, values: dict[str, torch.Tensor]) -> torch.nn.Module:
    peer = peer.double().eval()
    missing = set(values) - set(peer.state_dict())
    assert not missing, f"the peer's parameters are called {sorted(peer.state_dict())}"
    peer.load_state_dict(values, strict=False)
    return peer


def test_linformer() -> None:
    package = pytest.importorskip("linformer")
    mixer, (query, key, value), x = build(Linformer, rank=6, sharing="headwise")
    peer = load(
        package.LinformerSelfAttention(DIM, LENGTH, k=6, heads=NUM_HEADS, dim_head=HEAD_DIM),
        {
            "to_q.weight": query,
            "to_k.weight": key,
            "to_v.weight": value,
            "proj_k": mixer.E.T,
            "proj_v": mixer.F.T,
            "to_out.weight": mixer.output_projection.weight,
            "to_out.bias": mixer.output_projection.bias,
        },
    )
    torch.testing.assert_close(mixer(x), peer(x))


def test_performer(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("performer_pytorch.performer_pytorch")
    # The peer adds eps after subtracting another constant than we do; without eps, constants cancel.
    monkeypatch.setattr(package, "softmax_kernel", functools.partial(package.softmax_kernel, eps=0.0))
    mixer, (query, key, value), x = build(Performer, num_features=40, eps=1e-60)
    peer = package.SelfAttention(DIM, heads=NUM_HEADS, dim_head=HEAD_DIM, nb_features=40)
    values = {"fast_attention.projection_matrix": mixer.projection}
    for name, weight in [("to_q", query), ("to_k", key), ("to_v", value)]:
        values[f"{name}.weight"] = weight
    values["to_out.weight"] = mixer.output_projection.weight
    values["to_out.bias"] = mixer.output_projection.bias
    torch.testing.assert_close(mixer(x), load(peer, values)(x))


@pytest.mark.parametrize("look_around", [0, 1])
def test_local(look_around: int) -> None:
    package = pytest.importorskip("local_attention")
    mixer, (query, key, value), x = build(Local, block_size=8, look_around=look_around)
    torch.nn.init.zeros_(mixer.output_projection.bias)
    peer = package.LocalAttention(
        window_size=8,
        causal=False,
        look_backward=look_around,
        look_forward=look_around,
        scale=1 / math.sqrt(HEAD_DIM),
        use_rotary_pos_emb=False,
    )
    heads = [
        (x @ weight.T).unflatten(-1, (NUM_HEADS, HEAD_DIM)).transpose(1, 2) for weight in (query, key, value)
    ]
    mask = mask_from_lengths(torch.tensor([LENGTH, 21, 3]), LENGTH)
    expected = mixer.output_projection(peer(*heads, mask=mask).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(x, mask)[mask], expected[mask])
