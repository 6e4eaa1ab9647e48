"""Longformer's attention in Hugging Face transformers, given its own chunk-wise masks."""

from __future__ import annotations

from unittest import mock

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

PACKAGE = "transformers==5.23.0"


class LongformerPeer(nn.Module):
    """LongformerSelfAttention with the last projection; the first tokens are global."""

    def __init__(self, dim: int, num_heads: int, window: int, num_global: int) -> None:
        from transformers import LongformerConfig
        from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

        super().__init__()
        config = LongformerConfig(
            hidden_size=dim,
            num_attention_heads=num_heads,
            attention_window=[window],
            attention_probs_dropout_prob=0.0,
        )
        self.attention = LongformerSelfAttention(config, 0)
        self.out = nn.Linear(dim, dim)
        self.num_global = num_global

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = x.new_ones(x.shape[:2], dtype=torch.bool)
        # The package's codes: 0 for local attention, negative for none, positive for global.
        attention_mask = torch.where(mask, 0.0, -10000.0).to(x.dtype)
        attention_mask[:, : self.num_global] = torch.where(mask[:, : self.num_global], 10000.0, -10000.0).to(
            x.dtype
        )
        mixed = self.attention(
            x,
            attention_mask=attention_mask,
            is_index_masked=attention_mask < 0,
            is_index_global_attn=attention_mask > 0,
            is_global_attn=self.num_global > 0,
        )[0]
        return self.out(mixed)


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    def softmax(logits: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
        return logits.softmax(dim)  # the package asks for float32, whatever it is given

    with mock.patch("torch.nn.functional.softmax", softmax):
        return peer(x, mask)


def give(mixer: nn.Module, state: Weights) -> None:
    for target, suffix in ((mixer.input_projection, ""), (mixer.global_projection, "_global")):
        if target is not None:
            for part in ("weight", "bias"):
                parts = [state[f"attention.{name}{suffix}.{part}"] for name in ("query", "key", "value")]
                assign(getattr(target, part), torch.cat(parts))
    for part in ("weight", "bias"):
        assign(getattr(mixer.output_projection, part), state[f"out.{part}"])


PARITIES = {
    f"window-{window}-global-{num_global}": Parity(
        PACKAGE,
        lambda window=window, num_global=num_global: LongformerPeer(
            SIZES.dim, SIZES.num_heads, window, num_global
        ),
        run,
        give,
        {"window": window, "num_global": num_global},
        remark="its softmax in float64, where the package casts to float32",
    )
    for window, num_global in ((8, 1), (4, 3), (8, 0))
}

SPEEDS = [
    Speed("transformers 5.23.0 LongformerSelfAttention", lambda n: LongformerPeer(128, 4, 512, 1)),
    Speed(
        "transformers 5.23.0 LongformerSelfAttention",
        lambda n: LongformerPeer(128, 4, 128, 1),
        {"window": 128},
    ),
]
