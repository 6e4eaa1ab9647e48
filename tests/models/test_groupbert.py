"""GroupBERT: its parts off one by one, and what fits into its groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lra_bench.encoder import MixerEncoder
from lra_bench.errors import OptionError
from lra_bench.models.exact.transformer import Transformer
from lra_bench.models.layer.groupbert import GroupBert
from lra_bench.validation.subject import Sizes

ARCHITECTURE = Sizes(dim=32, num_heads=3, head_dim=4, ffn_dim=40, num_layers=2).architecture()
OFF = {"convolution": False, "grouped_ffn": False, "double_ffn": False}


def build(**options: Any) -> GroupBert:
    torch.manual_seed(0)
    return GroupBert(ARCHITECTURE, max_length=64, **options).double()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def standard() -> MixerEncoder:
    mixers = [Transformer(32, 3, head_dim=4, max_length=64, layer_index=index) for index in range(2)]
    return MixerEncoder(list(mixers), ARCHITECTURE).double()


def test_all_off_is_the_standard_encoder(evidence: Callable[..., None]) -> None:
    ours, theirs = build(**OFF), standard()
    theirs.load_state_dict(ours.state_dict())  # the same names, and none left over
    x = 3 * tokens(2, 19, 32)
    mask = torch.arange(19) < torch.tensor([[19], [11]])
    error = max(float((ours(x, each)[0] - theirs(x, each)[0]).detach().abs().max()) for each in (None, mask))
    assert error < 1e-12
    evidence("groupbert", "identity", {"what": "all parts off is the standard encoder", "error": error})


def test_added_parts_leave_the_others_as_they_are() -> None:
    off = set(build(**OFF).state_dict())
    convolved = set(build(**{**OFF, "convolution": True}).state_dict())
    doubled = set(build(**{**OFF, "double_ffn": True}).state_dict())
    assert off < convolved
    assert off < doubled
    assert {name.split(".")[2] for name in convolved - off} == {"convolution", "convolution_norm"}
    assert {name.split(".")[2] for name in doubled - off} == {"first_ffn"}


def test_one_group_is_a_dense_product() -> None:
    ffn = build(ffn_groups=1).blocks[0].ffn
    hidden = tokens(2, 5, 40)
    torch.testing.assert_close(ffn.contract(hidden), hidden @ ffn.weight[0] + ffn.bias[0])


def test_groups_have_as_many_parameters_less() -> None:
    weights = [build(ffn_groups=groups).blocks[0].ffn.weight.numel() for groups in (1, 4)]
    assert weights == [40 * 32, 40 * 32 // 4]


def test_convolution_sees_its_neighbours_and_its_group() -> None:
    module = build(conv_kernel_size=5, conv_group_size=8).blocks[0].convolution
    x = tokens(1, 12, 32)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: module.convolution(x.mT).mT[0].unflatten(-1, (4, 8)).sum(-1), x
    )  # (token, group, 1, token, channel)
    reached = jacobian[:, :, 0].unflatten(-1, (4, 8)).abs().sum(-1) > 0
    near = (torch.arange(12)[:, None] - torch.arange(12)).abs() <= 2
    assert torch.equal(reached, near[:, None, :, None] & torch.eye(4, dtype=torch.bool)[None, :, None])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"conv_group_size": 12}, "conv_group_size=12 .* the width 32: 1, 2, 4, 8, 16, 32"),
        ({"ffn_groups": 3}, "ffn_groups=3 .* the widths 32 and 40: 1, 2, 4, 8"),
    ],
    ids=str,
)
def test_what_does_not_fit_says_what_would(options: dict[str, int], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        build(**options)


def test_parts_that_are_off_need_not_fit() -> None:
    build(**OFF, conv_group_size=12, ffn_groups=3)


def test_only_attention_grows_with_the_square() -> None:
    def flops(length: int) -> int:
        return GroupBert.cost(length, ARCHITECTURE).flops

    attention = 2 * 4 * 1024**2 * 12  # layers, Q K^T and A V, heads times width
    assert flops(2048) - 2 * flops(1024) == 2 * attention
