"""labml_nn's relative attention and XLNet's of transformers, run segment by segment with a memory."""

from __future__ import annotations

import torch
from peers.peer import SIZES, Parity, Speed, Weights, assign
from torch import Tensor, nn

SEGMENT, MEMORY = 8, 12


class Recurrent(nn.Module):
    """A layer of one segment run over a sequence: (x, memory and segment, real) of each, in turn."""

    def __init__(self, layer: nn.Module, segment: int, memory: int) -> None:
        super().__init__()
        self.layer = layer
        self.segment = segment
        self.memory = memory

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (b, n, d), mask: (b, n) or None"""
        mixed = []
        memory = x[:, :0]
        for start in range(0, x.shape[1], self.segment):
            own = x[:, start : start + self.segment]
            window = torch.cat([memory, own], dim=1)
            end = start + own.shape[1]
            real = None if mask is None else mask[:, end - window.shape[1] : end]
            mixed.append(self.one_segment(own, window, real))
            memory = window[:, max(0, window.shape[1] - self.memory) :].detach()
        return torch.cat(mixed, dim=1)

    def one_segment(self, own: Tensor, window: Tensor, real: Tensor | None) -> Tensor:
        raise RuntimeError("a subclass says how its layer is called")


class Labml(Recurrent):
    """labml_nn.transformers.xl: positions are learned tables over distances, not projected sinusoids."""

    def one_segment(self, own: Tensor, window: Tensor, real: Tensor | None) -> Tensor:
        key = window.transpose(0, 1)
        mask = None if real is None else real.T[None]
        return self.layer(query=own.transpose(0, 1), key=key, value=key, mask=mask).transpose(0, 1)


class XLNet(Recurrent):
    """Attention of XLNet, which looks both ways and has Transformer-XL's scores."""

    def one_segment(self, own: Tensor, window: Tensor, real: Tensor | None) -> Tensor:
        hidden, memory = own.transpose(0, 1), window[:, : window.shape[1] - own.shape[1]].transpose(0, 1)
        positions = self.positions(own.shape[1], window.shape[1]).to(own).expand(-1, len(own), -1)
        mask = None if real is None else (~real).to(own).T[None, :, :, None]
        return self.layer(hidden, None, mask, None, positions, None, mems=memory)[0].transpose(0, 1)


def labml_speed(length: int) -> nn.Module:
    from labml_nn.transformers.xl.relative_mha import RelativeMultiHeadAttention

    return Labml(RelativeMultiHeadAttention(4, 128, 0.0), 128, 128)


def xlnet() -> nn.Module:
    from transformers import XLNetConfig
    from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

    config = XLNetConfig(
        d_model=SIZES.dim,
        n_head=SIZES.num_heads,
        d_inner=4,
        n_layer=1,
        vocab_size=4,
        attn_type="bi",
        dropout=0,
    )
    layer = XLNetRelativeAttention(config)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    # Its layer adds the input and normalises, which a block does outside the mixer here.
    layer.post_attention = lambda _, heads, residual=True: torch.einsum("ibnd,hnd->ibh", heads, layer.o)
    module = XLNet(layer, SEGMENT, MEMORY)
    module.positions = XLNetModel(config).relative_positional_encoding
    return module


def run(peer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    return peer(x, mask)


def give_xlnet(mixer: nn.Module, state: Weights) -> None:
    weights = [state[f"layer.{name}"].flatten(1).T for name in "qkv"]  # (h * e, d) each
    assign(mixer.input_projection.weight, torch.cat(weights))
    nn.init.zeros_(mixer.input_projection.bias)
    assign(mixer.output_projection.weight, state["layer.o"].flatten(1))
    nn.init.zeros_(mixer.output_projection.bias)
    assign(mixer.scores.position_projection.weight, state["layer.r"].flatten(1).T)
    assign(mixer.scores.content_bias, state["layer.r_w_bias"])
    assign(mixer.scores.position_bias, state["layer.r_r_bias"])


PARITIES = {
    "xlnet": Parity(
        "transformers==5.23.0",
        xlnet,
        run,
        give_xlnet,
        {"segment_length": SEGMENT, "memory_length": MEMORY},
        tolerance=1e-5,
        remark="XLNet makes its sinusoids in float32; segments and memory are run around its layer.",
    )
}

SPEEDS = [Speed("labml-nn 0.4.136, segment by segment", labml_speed)]
