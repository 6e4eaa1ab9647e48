"""FNet of Hugging Face transformers, the mixing sublayer only."""

from __future__ import annotations

from peers.peer import SIZES, Parity, Speed
from torch import Tensor, nn


class Mixing(nn.Module):
    """`FNetBasicFourierTransform` returns a tuple."""

    def __init__(self, dim: int, length: int) -> None:
        from transformers import FNetConfig
        from transformers.models.fnet.modeling_fnet import FNetBasicFourierTransform

        super().__init__()
        config = FNetConfig(hidden_size=dim, max_position_embeddings=length)
        self.transform = FNetBasicFourierTransform(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x)[0]


PARITIES = {
    "huggingface": Parity(
        "transformers==5.23.0",
        lambda: Mixing(SIZES.dim, SIZES.max_length),
        lambda peer, x, mask: peer(x),
        lambda mixer, state: None,
        lengths=(31, 31),
    )
}

SPEEDS = [Speed("transformers 5.23.0, FNetBasicFourierTransform", lambda n: Mixing(128, n))]
