"""Compressive Transformer: what leaves the memory is compressed and kept, not forgotten."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, merge_heads, whole_blocks
from lra_bench.models.memory.relative_attention import look_back, plain_attention, segments
from lra_bench.models.memory.transformer_xl import TransformerXL

Compressor = Literal["convolution", "mean", "max"]


class Compressive(TransformerXL):
    """softmax over [compressed memory; memory; segment], with the scores of Transformer-XL.

    Compressive Transformers for Long-Range Sequence Modelling. Rae, Potapenko, Jayakumar, Hillier,
    Lillicrap, 2019, arXiv 1911.05507, section 3, algorithms 1 and 2.

    Of the tokens that leave the memory, every `compression_rate` become one slot of the compressed
    memory. A slot takes one position, as in the public implementations; the paper doesn't say how it
    counts.

    segment_length, memory_length: as in TransformerXL; multiples of compression_rate.
    compressed_length: slots that a segment sees; 0 for none. As long as the memory by default, the
        example of the paper's section 3.3.
    compression_rate: c, tokens per slot; the paper tries 2 to 4.
    compressor: convolution: with c as kernel and as stride, what public implementations ship as the
        paper's best; mean and max: pooling, its baselines without parameters (section 3.2).
    reconstruction_loss: the compressor learns only to give the content-based attention that the tokens
        themselves gave (algorithm 2), and from the model's own loss nothing. False: it learns from the
        model's loss, within the example.
    reconstruction_weight: of that loss. Its gradients meet no other, so that the paper needs no such
        constant; it matters to a trainer that clips the norm of all gradients together.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        segment_length: int = 128,
        memory_length: int = 128,
        compressed_length: int = 128,
        compression_rate: int = 4,
        compressor: Compressor = "convolution",
        reconstruction_loss: bool = True,
        reconstruction_weight: float = 1.0,
        relative_positions: bool = True,
        stop_gradient: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            segment_length=segment_length,
            memory_length=memory_length,
            relative_positions=relative_positions,
            stop_gradient=stop_gradient,
            **shape,
        )
        require(compressed_length >= 0, "compressed_length", compressed_length, "at least 0")
        require(compression_rate >= 1, "compression_rate", compression_rate, "at least 1")
        for name, value in (("segment_length", segment_length), ("memory_length", memory_length)):
            require(value % compression_rate == 0, name, value, f"a multiple of {compression_rate}")
        known = ("convolution", "mean", "max")
        require(compressor in known, "compressor", compressor, f"one of {', '.join(known)}")
        require(reconstruction_weight >= 0, "reconstruction_weight", reconstruction_weight, "at least 0")
        self.compressed_length = compressed_length
        self.compression_rate = compression_rate
        self.compressor = compressor
        self.reconstruction_loss = reconstruction_loss
        self.reconstruction_weight = reconstruction_weight
        # A convolution whose kernel is its stride is a product of each c tokens laid side by side.
        learned = compressor == "convolution" and compressed_length > 0
        self.compression = nn.Linear(compression_rate * dim, dim) if learned else None
        self._loss: Tensor | None = None
        self._count: Tensor | None = None

    @property
    def auxiliary_loss(self) -> Tensor | None:
        """The reconstruction loss of the last training pass."""
        return self._loss

    @property
    def auxiliary_count(self) -> Tensor | None:
        """Tokens that a slot was compared for."""
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        # A loss belongs to its pass; with its graph it could be neither copied nor pickled.
        return {**self.__dict__, "_loss": None, "_count": None}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        x, mask = whole_blocks(x, mask, min(self.segment_length, x.shape[1]))
        padded = x.shape[1]
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0)  # before a slot mixes real tokens and padding
        visible, evicted = self.num_visible(padded), self.num_evicted(padded)
        learns = self.training and self.compression_is_apart
        slots = self.compress(x) if visible or (learns and evicted) else None
        given = None
        if slots is not None and visible:
            given = slots[:, :visible].detach() if self.compression_is_apart else slots[:, :visible]
        query, key, value = self.project(x) if given is None else self.project(x, given)
        self._loss = None
        if learns and evicted and slots is not None and torch.is_grad_enabled():
            self._loss = self.reconstruction(query, key, value, slots[:, :evicted], mask)
        output: Tensor = self.output_projection(merge_heads(self.attend(query, key, value, mask)))
        return output[:, :length]

    @property
    def compression_is_apart(self) -> bool:
        """Whether the model's own loss is kept from the compressor."""
        return self.reconstruction_loss and self.compression is not None

    def num_visible(self, length: int) -> int:
        """Slots that some segment of a sequence of whole segments sees."""
        left = length - min(self.segment_length, length) - self.memory_length
        return max(0, left) // self.compression_rate if self.compressed_length else 0

    def num_evicted(self, length: int) -> int:
        """Slots of all that has left the memory by the time the last segment enters it."""
        if length < self.segment_length:
            return 0
        return max(0, length - self.memory_length) // self.compression_rate if self.compressed_length else 0

    def compress(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n / c, d): a slot for every c tokens."""
        chunks = segments(x.detach() if self.stop_gradient else x, self.compression_rate, axis=1)
        if self.compression is not None:
            slots: Tensor = self.compression(chunks.flatten(2))
            return slots
        return chunks.mean(dim=2) if self.compressor == "mean" else chunks.amax(dim=2)

    def parts(self, x: Tensor, length: int) -> list[Tensor]:
        found = super().parts(x, length)
        visible = self.num_visible(length)
        if not visible:
            return found
        slots = self.scores.arrange(x.split([x.shape[2] - visible, visible], dim=2)[1])
        rate = self.compression_rate
        older = look_back(
            slots,
            min(self.compressed_length, visible),
            self.segment_length // rate,
            length // self.segment_length,
            self.scores.axis,
            gap=self.memory_length // rate,
        )
        return [older, *found]

    def real(self, mask: Tensor) -> Tensor:
        """(b, n) -> (b, n + slots) bool: a slot stands for something if any of its tokens does."""
        visible = self.num_visible(mask.shape[1])
        return torch.cat([mask, self.real_slots(mask)[:, :visible]], dim=1) if visible else mask

    def real_slots(self, mask: Tensor) -> Tensor:
        """(b, n) -> (b, n / c) bool"""
        return segments(mask, self.compression_rate, axis=1).any(dim=-1)

    def reconstruction(
        self, query: Tensor, key: Tensor, value: Tensor, slots: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Mean squared difference of each segment's attention to the tokens that leave the memory next,
        and to their slots: without positions, and from everything but `slots` (b, k, d) detached."""
        batch, _, length, _ = query.shape
        segment, rate = self.segment_length, self.compression_rate
        count = length // segment
        if mask is None:
            mask = torch.ones(1, length, dtype=torch.bool, device=query.device)
        mask = mask.expand(batch, -1)

        def leaving(x: Tensor, per_slot: int) -> Tensor:
            """(b, k, ...) -> (b, t, s / per_slot, ...): tokens or slots that go as segment t comes in."""
            gap = (self.memory_length - segment) // per_slot
            return look_back(x, segment // per_slot, segment // per_slot, count, axis=1, gap=gap)

        asking = segments(query.detach().transpose(1, 2).contiguous(), segment, axis=1)  # (b, t, s, h, e)
        seen = leaving(mask, 1)
        with torch.no_grad():
            tokens = [leaving(x[:, :, :length].transpose(1, 2), 1) for x in (key, value)]
            expected = plain_attention(asking, tokens[0], tokens[1], seen)
        stand_ins = [leaving(x.transpose(1, 2), rate) for x in self.project_hidden(slots, frozen=True)]
        got = plain_attention(asking, stand_ins[0], stand_ins[1], leaving(self.real_slots(mask), rate))
        counted = segments(mask, segment, axis=1) & seen.any(dim=-1, keepdim=True)  # (b, t, s)
        difference = (got - expected).square().mean(dim=(-2, -1))
        self._count = counted.sum()
        mean = (difference * counted).sum() / self._count.clamp(min=1)
        return self.reconstruction_weight * mean

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        segment_length: int = 128,
        memory_length: int = 128,
        relative_positions: bool = True,
        stop_gradient: bool = True,
        compressed_length: int = 128,
        compression_rate: int = 4,
        compressor: Compressor = "convolution",
        reconstruction_loss: bool = True,
        **options: Any,
    ) -> Cost:
        """As TransformerXL with windows of c + m + s, and compression. FLOPs are those of evaluation;
        the bytes are kept in training only, and those of the reconstruction loss are among them."""
        segment = min(segment_length, length)
        padded = length + -length % segment
        reach = min(memory_length, padded - segment)
        left = padded - segment - memory_length
        visible = max(0, left) // compression_rate if compressed_length else 0
        evicted = max(0, padded - memory_length) // compression_rate if length >= segment_length else 0
        base = cls.windowed_cost(
            padded,
            dim,
            num_heads,
            head_dim,
            segment=segment,
            window=segment + reach + min(compressed_length, visible),
            relative_positions=relative_positions,
            remembered=stop_gradient and reach > 0,
            masked=padded > segment or padded > length,
        )
        inner = num_heads * head_dim
        learned = compressor == "convolution" and compressed_length > 0
        flops = kept = 0
        if visible:
            flops = 4 * visible * dim * inner + (2 * padded * dim * dim if learned else 0)
            kept = visible * dim
            if compressor == "max" and not stop_gradient:
                kept += padded // compression_rate * dim
        if learned and reconstruction_loss and evicted:
            # Queries, attention to the slots, their difference from what is expected, a log-sum-exp.
            kept += 3 * padded * inner + padded * num_heads
            kept += padded // compression_rate * (2 * inner + 1)  # the slots' keys and values, the mask
            kept += padded // 4  # which tokens count, a byte each
        return Cost(base.flops + flops, base.activation_bytes + 4 * kept)
