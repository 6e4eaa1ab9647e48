"""Star-Transformer: each token sees its two neighbours and a relay that sees all tokens."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost
from lra_bench.protocol import Architecture
from lra_bench.stack import EncoderStack


class StarTransformer(EncoderStack):
    """Tokens in a ring (satellites h_i) around one hub (the relay s), updated by turns for T cycles.

    Star-Transformer. Guo, Qiu, Liu, Shao, Xue, Zhang, 2019, arXiv 1902.09113, section 3. Starting from
    the embeddings, h = e, and their mean, s = mean(e), each cycle is

        h_i <- LayerNorm(ReLU(MultiAtt(h_i, [h_{i-1}; h_i; h_{i+1}; e_i; s])))    of all i at once
        s   <- LayerNorm(ReLU(MultiAtt(s, [s; h_1; ...; h_n])))                   of the new h

    with weights of its own. There is no feed-forward: the protocol's `ffn_dim` is not used here. The
    classifier gets (h_i + s) / 2 of each token, so that its mean over tokens holds both.

    ring: "circular" joins the first and the last real token of a row; "open" leaves the missing neighbour
        out of the softmax; "none" drops the neighbours, to see what they are worth.
    relay: False drops the relay, likewise. Tokens then reach one more neighbour a cycle.
    residual: False, as in the equations; True adds h_i and s before the normalisation, for deep stacks.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        ring: Literal["circular", "open", "none"] = "circular",
        relay: bool = True,
        residual: bool = False,
        **shape: Any,
    ) -> None:
        super().__init__(architecture, **shape)
        require(ring in ("circular", "open", "none"), "ring", ring, "circular, open or none")
        self.ring = ring
        self.relay = relay
        self.residual = residual
        layers = range(architecture.num_layers)
        self.satellites = nn.ModuleList(_Attention(architecture) for _ in layers)
        self.relays = nn.ModuleList(_Attention(architecture) for _ in layers if relay)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        satellites = x  # (b, n, d)
        relay = self.initial_relay(x, mask)  # (b, d)
        for layer in range(len(self.satellites)):
            ring = cast(_Attention, self.satellites[layer])
            mixed = self.attend_ring(ring, satellites, x, relay, mask)
            satellites = ring.update(satellites, mixed, self.residual)
            if self.relay:
                star = cast(_Attention, self.relays[layer])
                mixed = self.attend_star(star, relay, satellites, mask)
                relay = star.update(relay, mixed, self.residual)
        return ((satellites + relay[:, None]) / 2 if self.relay else satellites), mask

    def initial_relay(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The mean of the real tokens: (b, n, d) -> (b, d)"""
        if mask is None:
            return x.mean(dim=1)
        real = mask[..., None].to(x.dtype)
        return (x * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def attend_ring(
        self, attention: _Attention, satellites: Tensor, x: Tensor, relay: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Every token over its context of up to five vectors: (b, n, d) -> (b, n, h, e)"""
        around = 0 if self.ring == "none" else 1
        length = satellites.shape[1]
        query, key, value = attention.project(self.with_neighbours(satellites, mask))  # (b, n + 2, h, e)
        query = query[:, around : around + length]
        shifts = range(2 * around + 1)  # the one before, the token itself, the one after
        keys = [key[:, shift : shift + length] for shift in shifts]
        values = [value[:, shift : shift + length] for shift in shifts]
        others = [x, relay[:, None]] if self.relay else [x]
        for other in others:
            key, value = attention.project_keys(other)
            keys.append(key)
            values.append(value)
        # Sums of products, term by term: as one product they would need the contexts copied together.
        logits = torch.stack([(query * key).sum(-1) for key in keys], dim=-1)  # (b, n, h, 5)
        logits = logits / math.sqrt(attention.head_dim)
        if self.ring == "open":
            logits = logits.masked_fill(self.beyond_ends(length, len(keys), mask, x.device), -math.inf)
        weights = attention.drop(logits.softmax(dim=-1))
        mixed = weights[..., :1] * values[0]
        for index, value in enumerate(values[1:], start=1):
            mixed = torch.addcmul(mixed, weights[..., index : index + 1], value)
        return mixed

    def with_neighbours(self, satellites: Tensor, mask: Tensor | None) -> Tensor:
        """One more vector at either end: (b, n, d) -> (b, n + 2, d)

        In a circular ring they are the last and the first token. In a row that ends early, the pad
        after its last token makes way for the first token: no real token looks at that pad.
        """
        if self.ring == "none":
            return satellites
        if self.ring == "open":
            return F.pad(satellites, (0, 0, 1, 1))
        first = satellites[:, :1]
        if mask is None:
            return torch.cat([satellites[:, -1:], satellites, first], dim=1)
        end = self.row_ends(mask)
        last = satellites.gather(1, end[:, :, None].expand(-1, -1, satellites.shape[2]))
        ring = torch.cat([last, satellites, first], dim=1)
        place = torch.arange(ring.shape[1], device=mask.device)
        return torch.where((place == end + 2)[..., None], first, ring)

    def row_ends(self, mask: Tensor) -> Tensor:
        """Index of the last real token of each row, 0 where there is none: (b, n) -> (b, 1)"""
        return (mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)

    def beyond_ends(self, length: int, size: int, mask: Tensor | None, device: torch.device) -> Tensor:
        """(1 or b, n, 1, size) bool, True at the neighbours that an open ring lacks."""
        place = torch.arange(length, device=device)[None]
        end = self.row_ends(mask) if mask is not None else place[:, -1:]
        slot = torch.arange(size, device=device)
        before = (place == 0)[..., None] & (slot == 0)
        after = (place == end)[..., None] & (slot == 2)
        return (before | after)[:, :, None]

    def attend_star(
        self, attention: _Attention, relay: Tensor, satellites: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The relay over itself and all tokens: (b, d), (b, n, d) -> (b, h, e)

        One query per row: with the key's weights taken to its side, q (W h) = (q W) h, and the value's
        to the mixture's, no token needs a key or a value. A key's bias is the same for all, and cancels.
        """
        query_weight, key_weight, value_weight = attention.weights  # (h, e, d)
        query_bias, _, value_bias = attention.biases  # (h, e)
        query = (relay @ query_weight.flatten(0, 1).T).unflatten(-1, query_bias.shape) + query_bias
        query = (query / math.sqrt(attention.head_dim)).transpose(0, 1)  # (h, b, e)
        query = (query @ key_weight).transpose(0, 1)  # (b, h, d)
        to_tokens = query @ satellites.transpose(1, 2)  # (b, h, n)
        if mask is not None:
            to_tokens = to_tokens.masked_fill(~mask[:, None], -math.inf)
        to_itself = query @ relay[:, :, None]  # (b, h, 1)
        weights = attention.drop(torch.cat([to_itself, to_tokens], dim=-1).softmax(dim=-1))
        mixed = weights[..., :1] * relay[:, None] + weights[..., 1:] @ satellites  # (b, h, d)
        mixed = (mixed.transpose(0, 1) @ value_weight.transpose(1, 2)).transpose(0, 1)  # (b, h, e)
        # With dropout the weights no longer sum to one.
        return mixed + value_bias * weights.sum(dim=-1, keepdim=True)

    @classmethod
    def cost(
        cls,
        length: int,
        architecture: Architecture,
        *,
        ring: Literal["circular", "open", "none"] = "circular",
        relay: bool = True,
        residual: bool = False,
        **options: Any,
    ) -> Cost:
        """Projections, and the relay's attention without keys and values of its own.

        The sums of products within a context, 2 n e of each head and each of its vectors, are no matrix
        products and are not counted.
        """
        dim, num_heads = architecture.dim, architecture.num_heads
        inner = num_heads * architecture.head_dim
        ends = 0 if ring == "none" else 2
        size = (3 if ends else 1) + 1 + relay
        flops = 2 * dim * inner * (3 * (length + ends) + 2 * length + length)
        # Queries, keys and values; keys and values of the embeddings; weights, heads, and what is normalised.
        kept = (length + ends) * 3 * inner + length * (2 * inner + num_heads * size + inner + dim)
        kept += 2 * length  # mean and deviation
        kept += (length + ends) * dim if ends else 0
        if relay:
            flops += 2 * dim * inner * (2 + 4) + 4 * length * dim * num_heads + 2 * dim * num_heads
            kept += length * (dim + num_heads)  # the tokens, and the relay's weights of them
            kept += 2 * (1 + num_heads + dim + 2 * inner + num_heads * dim)  # of the relay itself
        if residual:
            kept += (length + relay) * dim  # before and after the sum
        return Cost(
            architecture.num_layers * flops,
            4 * (architecture.num_layers * kept + length * dim),
        )


class _Attention(nn.Module):
    """Weights of one multi-head attention, and what follows it."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.num_heads = architecture.num_heads
        self.head_dim = architecture.head_dim
        self.attention_dropout = architecture.attention_dropout
        inner = self.num_heads * self.head_dim
        # Rows are query, key, value, in this order.
        self.input_projection = nn.Linear(architecture.dim, 3 * inner)
        self.output_projection = nn.Linear(inner, architecture.dim)
        self.dropout = nn.Dropout(architecture.dropout)
        self.norm = nn.LayerNorm(architecture.dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, n, d) -> three of (b, n, h, e)"""
        parts = self.input_projection(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        query, key, value = parts.unbind(dim=2)
        return query, key, value

    def project_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(b, n, d) -> key and value, (b, n, h, e) each"""
        inner = self.num_heads * self.head_dim
        parts = F.linear(x, self.input_projection.weight[inner:], self.input_projection.bias[inner:])
        key, value = parts.unflatten(-1, (2, self.num_heads, self.head_dim)).unbind(dim=2)
        return key, value

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """Of query, key and value: (h, e, d) each"""
        weight: Tensor = self.input_projection.weight
        return torch.unflatten(weight, 0, (3, self.num_heads, self.head_dim)).unbind()

    @property
    def biases(self) -> tuple[Tensor, ...]:
        """Of query, key and value: (h, e) each"""
        bias: Tensor = self.input_projection.bias
        return torch.unflatten(bias, 0, (3, self.num_heads, self.head_dim)).unbind()

    def drop(self, weights: Tensor) -> Tensor:
        return F.dropout(weights, self.attention_dropout) if self.training else weights

    def update(self, state: Tensor, mixed: Tensor, residual: bool) -> Tensor:
        """LayerNorm(ReLU(heads W_O)): (..., d), (..., h, e) -> (..., d)"""
        new = self.dropout(F.relu(self.output_projection(mixed.flatten(-2))))
        normed: Tensor = self.norm(state + new if residual else new)
        return normed
