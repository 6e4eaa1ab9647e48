"""Reformer: attention among tokens that hash alike."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, split_heads

SELF_PENALTY = 1e5
"""Taken from a token's score with itself: it counts only where nothing else is seen."""
MASKED = -1e9
"""Score of what may not be seen: below a penalised self in float32, which scores are computed in."""
LARGEST_HASH = 128
"""Buckets of a single hash; more are the product of two hashes, as in the authors' code."""


class Reformer(MultiHeadMixer):
    """Sorts tokens by a locality-sensitive hash and attends within chunks of the sorted order.

    Reformer: The Efficient Transformer. Kitaev, Kaiser, Levskaya, 2020, arXiv 2001.04451.
    Queries and keys are the same vectors, keys scaled to unit length, so that tokens which attend to
    each other strongly hash alike. A token's bucket in one round is the argmax of [qR; -qR], R random.
    Sorted by bucket and then by position, each chunk attends to itself and to the chunk before it. Rounds
    with other R are joined into one softmax; a pair seen in N_ij rounds has weight 1/N_ij in each.

    num_hashes: rounds of hashing. Eight, as in reformer-pytorch; the authors' configuration for ImageNet-64
        has two.
    chunk_size: tokens per chunk, 64 as in reformer-pytorch and transformers; None for one chunk over the
        whole sequence, which is softmax attention with shared queries and keys.
    num_buckets: of a round. None takes two per chunk of `max_length`, the ratio in the authors' code.
        It never depends on the sequence at hand, so that padding can't change it.
    shared_qk: keys are the queries. Without it keys have a projection of their own, and a token is sorted by
        its query alone.
    normalize_keys: keys have unit length.
    exclude_self: a token sees itself only where it sees nothing else.
    discount_repeats: 1/N_ij above; without it a pair counts once in each round that sees it, the default
        of reformer-pytorch.
    redraw: new R in every training pass, from torch's global generator. Evaluation, and training without
        it, uses the R of the buffer `rotations`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_hashes: int = 8,
        chunk_size: int | None = 64,
        num_buckets: int | None = None,
        shared_qk: bool = True,
        normalize_keys: bool = True,
        exclude_self: bool = True,
        discount_repeats: bool = True,
        redraw: bool = True,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(1 <= num_hashes <= 255, "num_hashes", num_hashes, "from 1 to 255")
        require(chunk_size is None or chunk_size >= 1, "chunk_size", chunk_size, "None or at least 1")
        require(
            num_buckets is None or (num_buckets >= 2 and num_buckets % 2 == 0),
            "num_buckets",
            num_buckets,
            "None or an even number of at least 2",
        )
        self.num_hashes = num_hashes
        self.chunk_size = chunk_size
        self.factors = factorise(num_buckets or default_buckets(self.max_length, chunk_size))
        self.shared_qk = shared_qk
        self.normalize_keys = normalize_keys
        self.exclude_self = exclude_self
        self.discount_repeats = discount_repeats
        self.redraw = redraw
        if shared_qk:
            self.input_projection = nn.Linear(dim, 2 * num_heads * self.head_dim)  # rows: query, value
        self.rotations: Tensor
        self.register_buffer("rotations", self.draw_rotations())

    def draw_rotations(self, like: Tensor | None = None) -> Tensor:
        """(e, r * m / 2) of standard normal numbers, m the number of buckets or the sum of its factors."""
        columns = self.num_hashes * sum(self.factors) // 2
        if like is None:
            return torch.randn(self.head_dim, columns)
        return torch.randn(self.head_dim, columns, dtype=like.dtype, device=like.device)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.shared_qk:
            query, value = (
                split_heads(part, self.num_heads) for part in self.input_projection(x).chunk(2, -1)
            )
            key = query
        else:
            query, key, value = super().project(x)
        return query, F.normalize(key, dim=-1) if self.normalize_keys else key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if self.chunk_size is None or query.shape[2] <= self.chunk_size:
            return self._attend_whole(query, key, value, mask)
        order = self.sort(self.hash(query), mask)  # (b, h, r, n)
        return self._attend_chunks(query, key, value, order, mask)

    @torch.no_grad()
    def hash(self, query: Tensor) -> Tensor:
        """(b, h, n, e) -> (b, h, r, n) the bucket of each token in each round."""
        rotations = self.draw_rotations(query) if self.training and self.redraw else self.rotations
        batch, heads, length, _ = query.shape
        rotated = (query.reshape(-1, self.head_dim) @ rotations.to(query.dtype)).view(
            batch, heads, length, self.num_hashes, -1
        )  # (b, h, n, r, m / 2)
        bucket = torch.zeros((), dtype=torch.int64, device=query.device)
        start = 0
        for factor in self.factors:
            sides = rotated[..., start : start + factor // 2]
            start += factor // 2
            highest, at_highest = sides.max(dim=-1)
            lowest, at_lowest = sides.min(dim=-1)
            side = torch.where(highest >= -lowest, at_highest, at_lowest + factor // 2)
            bucket = bucket * factor + side
        return bucket.transpose(2, 3)

    @torch.no_grad()
    def sort(self, bucket: Tensor, mask: Tensor | None) -> Tensor:
        """(b, h, r, n) buckets -> (b, h, r, n) tokens in order: by bucket, by position, padding last."""
        if mask is not None:
            bucket = bucket.masked_fill(~mask[:, None, None, :], math.prod(self.factors))
        length = bucket.shape[-1]
        return (bucket * length + torch.arange(length, device=bucket.device)).argsort(dim=-1)

    def _attend_whole(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """One chunk holds all: every round sees every pair, and all rounds give the same."""
        length = query.shape[2]
        # In a row without real tokens all scores are MASKED, and the softmax is even: no NaN.
        bias = query.new_zeros(1, 1, length, length)
        if self.exclude_self:
            bias.diagonal(dim1=-2, dim2=-1).fill_(-SELF_PENALTY)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None, :], MASKED)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0
        )

    def _attend_chunks(
        self, query: Tensor, key: Tensor, value: Tensor, order: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Each chunk of the sorted order with the one before it, joined over rounds."""
        batch, heads, length, width = query.shape
        assert self.chunk_size is not None
        size, rounds = self.chunk_size, self.num_hashes
        chunks = -(-length // size)
        filled = F.pad(order, (0, chunks * size - length))  # any token will do: it is masked
        first_row = torch.arange(batch * heads, device=order.device).view(batch, heads, 1, 1) * length
        queries = (filled + first_row).flatten()  # (b * h * r * chunks * w,) rows of the flattened tokens
        # The chunk before and the chunk itself. Nothing comes before the first.
        windows = F.pad(filled, (size, 0)).unfold(-1, 2 * size, size)  # (b, h, r, chunks, 2w)
        keys = (windows + first_row[..., None]).flatten()

        place = order.argsort(dim=-1)  # (b, h, r, n) where each token went

        def gather(x: Tensor, rows: Tensor) -> Tensor:
            taken = x.reshape(-1, width).index_select(0, rows)
            return taken.view(batch * heads * rounds * chunks, -1, width)

        seen = None
        if mask is not None or chunks * size > length:
            seen = self._seen(length, chunks, mask, order.device).expand(batch, heads, rounds, -1, -1, -1)
            seen = seen.flatten(0, 3)
        repeats = None
        if self.discount_repeats and rounds > 1:
            repeats = self.repeats(filled, windows, place).flatten(0, 3)
        weights, shift = _Weights.apply(  # type: ignore[no-untyped-call]
            gather(query / math.sqrt(width), queries),
            gather(key, keys),
            seen,
            repeats,
            SELF_PENALTY if self.exclude_self else 0.0,
            chunks,
        )  # exp(scores - shift) / N_ij: (b * h * r * chunks, w, 2w), (b * h * r * chunks, w, 1)
        total = weights.sum(-1, keepdim=True)
        weights = F.dropout(weights, self.dropout, self.training).to(value.dtype)
        mixed = weights @ gather(value, keys)  # (b * h * r * chunks, w, e)

        # Back to the tokens' places.
        offset = torch.arange(batch * heads * rounds, device=order.device).view(batch, heads, rounds, 1)
        back = (place + offset * (chunks * size)).flatten()

        def restore(x: Tensor) -> Tensor:
            return x.reshape(-1, x.shape[-1]).index_select(0, back).view(batch, heads, rounds, length, -1)

        return self.join(restore(mixed), restore(total), restore(shift))

    def join(self, mixed: Tensor, total: Tensor, shift: Tensor) -> Tensor:
        """Rounds weighted by what their softmaxes were divided by: one softmax over all of them.

        mixed: (b, h, r, n, e) sums of weighted values; total: (b, h, r, n, 1) sums of weights; both are
        relative to exp(shift) -> (b, h, n, e)
        """
        scale = (shift - shift.amax(dim=2, keepdim=True)).exp()
        joined = (mixed * scale.to(mixed.dtype)).sum(dim=2)
        return joined / (total * scale).sum(dim=2).to(mixed.dtype)

    def _seen(self, length: int, chunks: int, mask: Tensor | None, device: torch.device) -> Tensor:
        """(b or 1, 1, 1, chunks, 1, 2w) bool: which slots hold a real token. Padding is sorted to the end."""
        assert self.chunk_size is not None
        size = self.chunk_size
        lengths = torch.full((1,), length, device=device) if mask is None else mask.sum(dim=-1)
        slots = torch.arange(-size, chunks * size, device=device).unfold(0, 2 * size, size)
        seen = (slots >= 0) & (slots < lengths[:, None, None])  # (b, chunks, 2w)
        return seen[:, None, None, :, None, :]

    @torch.no_grad()
    def repeats(self, filled: Tensor, windows: Tensor, place: Tensor) -> Tensor:
        """N_ij: in how many rounds the token of each slot sees that of its window.

        filled: (b, h, r, chunks * w); windows: (b, h, r, chunks, 2w); place: (b, h, r, n)
        -> (b, h, r, chunks, w, 2w) uint8
        """
        assert self.chunk_size is not None
        size = self.chunk_size
        chunk_of = torch.div(place, size, rounding_mode="floor")  # (b, h, r, n)
        # A pair is seen where the query's chunk is the key's or the one after: where 2 c_i - (2 c_j + 1) is
        # -1 or 1. Integers as narrow as hold it, since this runs over all pairs of all pairs of rounds.
        narrow = torch.int8 if windows.shape[-2] <= 64 else torch.int32
        twice = (2 * chunk_of).to(narrow)
        count = torch.ones(*windows.shape[:-1], size, 2 * size, dtype=torch.uint8, device=filled.device)
        for other in range(1, self.num_hashes):  # a round sees its own pairs; here, which of the others do
            elsewhere = twice.roll(-other, dims=2)
            query = elsewhere.gather(-1, filled).unflatten(-1, (-1, size))[..., :, None]
            key = elsewhere.gather(-1, windows.flatten(-2)).view(windows.shape)[..., None, :]
            count += (query - (key + 1)).abs_().eq(1).view(torch.uint8)
        return count

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        max_length: int | None = None,
        num_hashes: int = 8,
        chunk_size: int | None = 64,
        num_buckets: int | None = None,
        shared_qk: bool = True,
        normalize_keys: bool = True,
        **options: Any,
    ) -> Cost:
        """Hashing: n r m e per head, m buckets. Q K^T and A V: 2 n r 2w e per head each, in whole chunks."""
        inner = num_heads * head_dim
        parts = 2 if shared_qk else 3
        flops = 2 * length * dim * inner * (parts + 1)
        kept = length * (dim + inner)
        if normalize_keys:
            kept += length * (parts * inner + 2 * num_heads)  # what was projected, and the keys' lengths
        if chunk_size is None or length <= chunk_size:
            # Query, key and value; keys are apart from what was projected only if they are scaled.
            kept += length * (inner + num_heads) + (0 if normalize_keys else length * (parts - 1) * inner)
            return Cost(flops + 4 * length * length * inner, 4 * kept)
        columns = sum(factorise(num_buckets or default_buckets(max_length or length, chunk_size))) // 2
        slots = -(-length // chunk_size) * chunk_size * num_hashes
        flops += 2 * length * inner * num_hashes * columns
        flops += 8 * slots * chunk_size * inner
        # Gathered queries, keys and values, with their places in eight bytes; weights.
        kept += slots * (5 * inner + 2 * 3 * num_heads + 2 * chunk_size * num_heads)
        kept += length * num_hashes * 3 * num_heads  # the way back, and the rounds' scales
        kept += length * (inner + num_heads)  # the quotient
        return Cost(flops, 4 * kept)


class _Weights(torch.autograd.Function):
    """exp(query key' - shift) / repeats of each chunk, shift the largest score of a query.

    The quotient of what backward needs is the result itself, so that one tensor of scores is kept for three.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        seen: Tensor | None,
        repeats: Tensor | None,
        self_penalty: float,
        chunks: int,
    ) -> tuple[Tensor, Tensor]:
        scores = torch.bmm(query, key.transpose(1, 2))  # (b * h * r * chunks, w, 2w)
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        size = scores.shape[1]
        scores[..., size:].diagonal(dim1=1, dim2=2).sub_(self_penalty)
        if seen is None:
            scores.unflatten(0, (-1, chunks))[:, 0, :, :size] = MASKED  # nothing comes before the first
        else:
            scores.masked_fill_(~seen, MASKED)
        shift = scores.amax(dim=-1, keepdim=True)
        weights = scores.sub_(shift).exp_()
        if repeats is not None:
            weights.div_(repeats)
        ctx.save_for_backward(query, key, weights)
        ctx.mark_non_differentiable(shift)
        return weights, shift

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        query, key, weights = ctx.saved_tensors
        scores = (gradient * weights).to(query.dtype)
        return scores @ key, scores.transpose(1, 2) @ query, None, None, None, None


def default_buckets(max_length: int, chunk_size: int | None) -> int:
    """Two buckets for each chunk of the longest sequence."""
    return 2 * max(1, -(-max_length // (chunk_size or max_length)))


def factorise(num_buckets: int) -> tuple[int, ...]:
    """Even factors, whose hashes are cheaper than one with all buckets; may come out a few buckets short."""
    if num_buckets <= LARGEST_HASH:
        return (num_buckets,)
    first = 2 ** math.ceil(math.log2(math.sqrt(num_buckets)))
    return (first, 2 * (num_buckets // (2 * first)))
