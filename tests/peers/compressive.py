"""labml_nn's pieces and compressive-transformer-pytorch, run segment by segment with both memories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peers.peer import Parity, Speed, Weights, assign
from references.transformer_xl import sinusoid
from torch import Tensor, nn

from lra_bench.validation.subject import Sizes

# Small: labml's tables of positions are part of what is computed and would be most of the file.
SIZES = Sizes(dim=12, num_heads=3, head_dim=4, max_length=32, ffn_dim=24)
SEGMENT, MEMORY, SLOTS, RATE = 6, 4, 5, 2
DISTANCES = 64


class Labml(nn.Module):
    """Relative attention, convolution and loss of labml_nn; this module only moves memories along."""

    def __init__(
        self, sizes: Sequence[int], segment: int, memory: int, slots: int, rate: int, *, losses: bool
    ) -> None:
        from labml_nn.transformers.compressive import (
            AttentionReconstructionLoss,
            CompressiveTransformerLayer,
            Conv1dCompression,
        )
        from labml_nn.transformers.xl.relative_mha import RelativeMultiHeadAttention

        super().__init__()
        self.layer = CompressiveTransformerLayer(
            d_model=sizes[0],
            self_attn=RelativeMultiHeadAttention(sizes[1], sizes[0], 0.0),
            feed_forward=nn.Identity(),
            dropout_prob=0.0,
            compress=Conv1dCompression(rate, sizes[0]),
        )
        self.segment, self.memory, self.slots, self.rate = segment, memory, slots, rate
        self.reconstruction = AttentionReconstructionLoss([self.layer]) if losses else None
        if self.reconstruction is not None:
            self.reconstruction.norm = lambda norm, x: x  # a block normalises before the mixer here
        self.auxiliary_loss = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (b, n, d), mask: (b, n) or None"""
        x = x.transpose(0, 1)
        real = None if mask is None else mask.T
        memory, slots = x[:0], x[:0]
        mixed, losses = [], []
        for start in range(0, len(x), self.segment):
            own = x[start : start + self.segment]
            window = torch.cat([slots, memory, own])
            seen = None
            if real is not None:
                end = start + len(own)
                tokens = real[end - len(memory) - len(own) : end]
                seen = torch.cat([tokens.new_ones(len(slots), x.shape[1]), tokens])[None]
            mixed.append(self.layer.self_attn(query=own, key=window, value=window, mask=seen))
            together = torch.cat([memory, own.detach()])
            leaving = max(0, len(together) - self.memory)
            memory = together[leaving:]
            if leaving >= self.rate:
                leavers = together[: leaving - leaving % self.rate]
                slots = torch.cat([slots, self.layer.compress(leavers).detach()])
                slots = slots[max(0, len(slots) - self.slots) :]
                if self.training and self.reconstruction is not None:
                    losses.append(self.reconstruction([own], [leavers]))
        self.auxiliary_loss = sum(losses) if losses else None
        return torch.cat(mixed).transpose(0, 1)


class Sinusoids(Labml):
    """Its learned tables of positions filled with projected sinusoids, which they can hold."""

    def __init__(self) -> None:
        super().__init__((SIZES.dim, SIZES.num_heads), SEGMENT, MEMORY, SLOTS, RATE, losses=False)
        self.projection = nn.Parameter(torch.randn(SIZES.num_heads, SIZES.head_dim, SIZES.dim) / 2)  # W_r
        self.position_bias = nn.Parameter(torch.randn(SIZES.num_heads, SIZES.head_dim) / 2)  # v
        attention = self.layer.self_attn
        nn.init.normal_(attention.query_pos_bias, std=0.5)
        attention.P = DISTANCES
        del attention.key_pos_embeddings, attention.key_pos_bias

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        # Row P - r of its tables is for distance r.
        places = [sinusoid(-place, SIZES.dim) for place in range(-DISTANCES, DISTANCES)]
        table = torch.stack([torch.from_numpy(place) for place in places])  # (2 P, d)
        self.layer.self_attn.key_pos_embeddings = torch.einsum("pd,hed->phe", table, self.projection)
        self.layer.self_attn.key_pos_bias = torch.einsum(
            "phe,he->ph", self.layer.self_attn.key_pos_embeddings, self.position_bias
        )
        # Padding sees nothing there, and is NaN.
        return super().forward(x, mask).nan_to_num()


class Lucidrains(nn.Module):
    """SelfAttention of compressive-transformer-pytorch; this module only hands its memories on."""

    def __init__(self) -> None:
        from compressive_transformer_pytorch.compressive_transformer_pytorch import SelfAttention

        super().__init__()
        self.layer = SelfAttention(128, 128, 128, 128, cmem_ratio=4, heads=4)
        self.positions = nn.Parameter(torch.zeros(4, 3 * 128, 32))
        self.auxiliary_loss = None

    def forward(self, x: Tensor) -> Tensor:
        mixed, losses, memories = [], [], None
        # Its `detach_` stops the projection from learning after the first pass: learn on all the same.
        self.layer.to_kv.weight.requires_grad_(True)
        for own in x.split(128, dim=1):
            result, memories, loss = self.layer(own, memories=memories, pos_emb=self.positions)
            memories = tuple(memory.detach() for memory in memories)
            mixed.append(result)
            losses.append(loss.sum())
        self.auxiliary_loss = sum(losses)
        return torch.cat(mixed, dim=1)


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    return peer(x, mask)


def give(mixer: nn.Module, state: Weights) -> None:
    parts = [state[f"layer.self_attn.{name}.linear.weight"] for name in ("query", "key", "value")]
    assign(mixer.input_projection.weight, torch.cat(parts))
    zero = torch.zeros_like(state["layer.self_attn.value.linear.bias"])
    assign(mixer.input_projection.bias, torch.cat([zero, zero, state["layer.self_attn.value.linear.bias"]]))
    assign(mixer.output_projection.weight, state["layer.self_attn.output.weight"])
    assign(mixer.output_projection.bias, state["layer.self_attn.output.bias"])
    assign(mixer.compression.weight, state["layer.compress.conv.weight"].transpose(1, 2).flatten(1))
    assign(mixer.compression.bias, state["layer.compress.conv.bias"])
    assign(mixer.scores.content_bias, state["layer.self_attn.query_pos_bias"])
    assign(mixer.scores.position_bias, state["position_bias"])
    assign(mixer.scores.position_projection.weight, state["projection"].flatten(0, 1))


PARITIES = {
    "labml": Parity(
        "labml-nn==0.4.136",
        Sinusoids,
        run,
        give,
        {
            "segment_length": SEGMENT,
            "memory_length": MEMORY,
            "compressed_length": SLOTS,
            "compression_rate": RATE,
        },
        sizes=SIZES,
        remark="Its tables of positions hold projected sinusoids; memories are moved along around it.",
    )
}

SPEEDS = [
    Speed(
        "labml-nn 0.4.136, segment by segment",
        lambda length: Labml((128, 4), 128, 128, 128, 4, losses=True),
    ),
    Speed("compressive-transformer-pytorch 0.4.0, segment by segment", lambda length: Lucidrains()),
]
