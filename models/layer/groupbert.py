"""GroupBERT: a convolution beside attention, and two feed-forwards of grouped products around it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost
from lra_bench.models.exact.transformer import Transformer
from lra_bench.protocol import Architecture
from lra_bench.stack import EncoderStack, feed_forward


class GroupBert(EncoderStack):
    """x + Conv(LN x), x + GFFN1(LN x), x + MHA(LN x), x + GFFN2(LN x), and a last LN after all layers.

    GroupBERT: Enhanced Transformer Architecture with Efficient Grouped Structures. Chelombiev, Justus,
    Orr, Dietrich, Gressmann, Koliousis, Luschi, 2021, arXiv 2106.05822. Order, gates and defaults are
    those of the authors' code (huggingface/optimum-graphcore, models/groupbert). With all three parts
    off it is the benchmark's own Transformer.

    convolution: the convolution module. conv_kernel_size: tokens it sees, an odd number.
        conv_group_size: channels of a group.
    grouped_ffn: the second product of a feed-forward in `ffn_groups` groups, and a projection after it
        that mixes them; without, the usual two products.
    double_ffn: a feed-forward before attention too; without, only the one after it.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        convolution: bool = True,
        conv_kernel_size: int = 7,
        conv_group_size: int = 16,
        grouped_ffn: bool = True,
        ffn_groups: int = 4,
        double_ffn: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__(architecture, **shape)
        dim, ffn_dim = architecture.dim, architecture.ffn_dim
        odd = conv_kernel_size >= 1 and conv_kernel_size % 2 == 1
        require(odd, "conv_kernel_size", conv_kernel_size, "an odd number, at least 1")
        fits = conv_group_size >= 1 and (not convolution or dim % conv_group_size == 0)
        divisors = f"a divisor of the width {dim}: {_divisors(dim)}"
        require(fits, "conv_group_size", conv_group_size, divisors)
        common = math.gcd(dim, ffn_dim)
        fits = ffn_groups >= 1 and (not grouped_ffn or common % ffn_groups == 0)
        divisors = f"a divisor of the widths {dim} and {ffn_dim}: {_divisors(common)}"
        require(fits, "ffn_groups", ffn_groups, divisors)
        self.convolution = convolution
        self.conv_kernel_size = conv_kernel_size
        self.conv_group_size = conv_group_size
        self.grouped_ffn = grouped_ffn
        self.ffn_groups = ffn_groups
        self.double_ffn = double_ffn
        self.blocks = nn.ModuleList(self.build_block(index) for index in range(architecture.num_layers))
        self.norm = nn.LayerNorm(dim)

    def build_block(self, index: int) -> GroupBertBlock:
        architecture = self.architecture
        mixer = Transformer(
            architecture.dim,
            architecture.num_heads,
            head_dim=architecture.head_dim,
            max_length=self.max_length,
            dropout=architecture.attention_dropout,
            layer_index=index,
        )
        return GroupBertBlock(
            mixer,
            self.build_ffn(),
            self.build_ffn() if self.double_ffn else None,
            self.build_convolution() if self.convolution else None,
            architecture,
        )

    def build_ffn(self) -> nn.Module:
        dim, ffn_dim, dropout = self.architecture.dim, self.architecture.ffn_dim, self.architecture.dropout
        if self.grouped_ffn:
            return GroupedFeedForward(dim, ffn_dim, self.ffn_groups, dropout)
        return feed_forward(dim, ffn_dim, dropout)

    def build_convolution(self) -> nn.Module:
        dim, dropout = self.architecture.dim, self.architecture.dropout
        return ConvolutionModule(dim, self.conv_kernel_size, self.conv_group_size, dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask

    @classmethod
    def cost(
        cls,
        length: int,
        architecture: Architecture,
        *,
        convolution: bool = True,
        conv_kernel_size: int = 7,
        conv_group_size: int = 16,
        grouped_ffn: bool = True,
        ffn_groups: int = 4,
        double_ffn: bool = True,
        **options: Any,
    ) -> Cost:
        """All layers. A module keeps its residual with two statistics for LN, and its products' inputs."""
        dim, ffn_dim = architecture.dim, architecture.ffn_dim
        attention = Transformer.cost(length, dim, architecture.num_heads, head_dim=architecture.head_dim)
        residual = dim + 2
        flops = 2 * dim * ffn_dim + (2 * dim * ffn_dim // ffn_groups + 2 * dim * dim if grouped_ffn else 0)
        flops += 0 if grouped_ffn else 2 * dim * ffn_dim
        # The normalised input, both sides of GELU, and what goes into the last projection.
        kept = residual + dim + 2 * ffn_dim + (dim if grouped_ffn else 0)
        flops, kept = (1 + double_ffn) * flops, (1 + double_ffn) * kept + residual
        if convolution:
            flops += 6 * dim * dim + 2 * dim * conv_group_size * conv_kernel_size
            # The normalised input, gates and values, both sides of the convolution and of the activation.
            kept += residual + dim + 2 * dim + dim + (dim + 2) + 2 * dim
        layers = architecture.num_layers
        last = length * residual
        return Cost(
            layers * (attention.flops + length * flops),
            layers * (attention.activation_bytes + 4 * length * kept) + 4 * last,
        )


class GroupBertBlock(nn.Module):
    """One layer: (b, n, d), (b, n) or None -> (b, n, d)"""

    def __init__(
        self,
        mixer: Transformer,
        ffn: nn.Module,
        first_ffn: nn.Module | None,
        convolution: nn.Module | None,
        architecture: Architecture,
    ) -> None:
        super().__init__()
        dim = architecture.dim
        # Named as in the standard block, so that weights go from one to the other.
        self.mixer_norm, self.mixer = nn.LayerNorm(dim), mixer
        self.mixer_dropout = nn.Dropout(architecture.dropout)
        self.ffn_norm, self.ffn = nn.LayerNorm(dim), ffn
        self.first_ffn = None if first_ffn is None else nn.Sequential(nn.LayerNorm(dim), first_ffn)
        self.convolution_norm = None if convolution is None else nn.LayerNorm(dim)
        self.convolution = convolution

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.convolution is not None and self.convolution_norm is not None:
            x = x + self.convolution(self.convolution_norm(x), mask)
        if self.first_ffn is not None:
            x = x + self.first_ffn(x)
        x = x + self.mixer_dropout(self.mixer(self.mixer_norm(x), mask))
        output: Tensor = x + self.ffn(self.ffn_norm(x))
        return output


class ConvolutionModule(nn.Module):
    """Gated linear unit, grouped convolution, LN, SiLU, projection. (b, n, d), (b, n) or None -> (b, n, d)"""

    def __init__(self, dim: int, kernel_size: int, group_size: int, dropout: float) -> None:
        super().__init__()
        # Values are the first half of the rows, gates the second, as F.glu has it.
        self.gated_projection = nn.Linear(dim, 2 * dim)
        self.convolution = nn.Conv1d(
            dim, dim, kernel_size, padding=kernel_size // 2, groups=dim // group_size
        )
        self.norm = nn.LayerNorm(dim)
        self.output_projection = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        gated = self.gate(x)
        if mask is not None:
            # After the gate, whose bias makes something of nothing, and before neighbours are mixed.
            gated = gated.masked_fill(~mask[..., None], 0)
        mixed = self.convolution(gated.transpose(1, 2)).transpose(1, 2)  # (b, n, d)
        output: Tensor = self.dropout(self.output_projection(F.silu(self.norm(mixed))))
        return output

    def gate(self, x: Tensor) -> Tensor:
        return F.glu(self.gated_projection(x))


class GroupedFeedForward(nn.Module):
    """GELU(x W1), a product for each group of its channels, and a projection. (b, n, d) -> (b, n, d)"""

    def __init__(self, dim: int, ffn_dim: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, ffn_dim)
        # Drawn as a linear layer of a group's width is.
        bound = 1 / math.sqrt(ffn_dim // groups)
        self.weight = nn.Parameter(
            torch.empty(groups, ffn_dim // groups, dim // groups).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(groups, 1, dim // groups).uniform_(-bound, bound))
        self.output_projection = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        contracted = self.contract(F.gelu(self.expand(x)))
        output: Tensor = self.dropout(self.output_projection(contracted))
        return output

    def contract(self, hidden: Tensor) -> Tensor:
        """(b, n, f) -> (b, n, d), group g of the channels onto group g"""
        groups = hidden.flatten(0, 1).unflatten(1, (len(self.weight), -1)).transpose(0, 1)  # (g, b n, f / g)
        contracted = torch.baddbmm(self.bias, groups, self.weight)  # (g, b n, d / g)
        return contracted.transpose(0, 1).reshape(*hidden.shape[:2], -1)


def _divisors(number: int) -> str:
    return ", ".join(str(k) for k in range(1, number + 1) if number % k == 0)
