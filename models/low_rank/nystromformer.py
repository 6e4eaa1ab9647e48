"""Nystromformer: the softmax matrix completed from its rows and columns at a few landmarks."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, key_mask, merge_heads, split_heads

BLOCK = 64
"""Rows of the convolution that are computed by one matrix product."""


class Nystromformer(MultiHeadMixer):
    """softmax(Q K'^T) pinv(softmax(Q' K'^T)) softmax(Q' K^T) V + conv(V), with landmarks Q' and K'.

    Nystromformer: A Nystrom-Based Algorithm for Approximating Self-Attention. Xiong, Zeng,
    Chakraborty, Tan, Fung, Li, Singh, 2021, arXiv 2102.03902; all logits are scaled by 1 / sqrt(e).
    Landmarks are the means of consecutive segments. The pseudo-inverse is iterated; products are
    taken from the right, so that nothing of size n x n or n x m is kept.

    Segments divide the real tokens of each sequence, so padding changes none of them. Where m does
    not divide a length, the first segments are one token shorter, as in the authors' extension to
    any length; a sequence of fewer than m tokens has a landmark for each token. Neither the paper's
    code nor this one drops attention weights, of which only factors exist.

    num_landmarks: m. 64 is what the authors' BERT models have; their LRA runs have 32 to 256.
    pinv_iterations: steps of the iteration for the pseudo-inverse; 6 in the authors' code.
    conv_kernel_size: width of a depthwise convolution over the values, one kernel a head, that is
        added to the result; odd, or None for none. 35 in the authors' LRA configuration.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_landmarks: int = 64,
        pinv_iterations: int = 6,
        conv_kernel_size: int | None = 35,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(num_landmarks >= 1, "num_landmarks", num_landmarks, "at least 1")
        require(pinv_iterations >= 1, "pinv_iterations", pinv_iterations, "at least 1")
        centred = conv_kernel_size is None or (conv_kernel_size >= 1 and conv_kernel_size % 2 == 1)
        require(centred, "conv_kernel_size", conv_kernel_size, "an odd number, or None for no convolution")
        self.num_landmarks = num_landmarks
        self.pinv_iterations = pinv_iterations
        self.conv_kernel_size = conv_kernel_size
        self.kernel = None
        if conv_kernel_size is not None:
            self.kernel = nn.Parameter(torch.empty(num_heads, conv_kernel_size))
            bound = 1 / math.sqrt(conv_kernel_size)  # what nn.Conv2d does, which the authors' code uses
            nn.init.uniform_(self.kernel, -bound, bound)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        landmarks, filled = min(self.num_landmarks, query.shape[2]), None
        if mask is None:
            query_landmarks = self.segment_means(query, landmarks)  # (b, h, m, e)
            key_landmarks = self.segment_means(key, landmarks)
        else:
            averaging = self.averaging(mask, landmarks, query.dtype)  # (b, m, n)
            filled = averaging.amax(dim=-1) > 0  # (b, m), False at landmarks without a token
            query_landmarks = split_heads(torch.bmm(averaging, merge_heads(query)), self.num_heads)
            key_landmarks = split_heads(torch.bmm(averaging, merge_heads(key)), self.num_heads)

        gathered = F.scaled_dot_product_attention(
            query_landmarks, key, value, attn_mask=None if mask is None else key_mask(mask)
        )  # (b, h, m, e)
        with _full_precision(query.device.type):
            weights = self.landmark_weights(query_landmarks, key_landmarks, filled)  # (b, h, m, m)
            completed = self.pseudo_inverse(weights) @ gathered.to(weights.dtype)  # (b, h, m, e)
        mixed = F.scaled_dot_product_attention(
            query,
            key_landmarks,
            completed.to(value.dtype),
            attn_mask=None if filled is None else key_mask(filled),
        )
        return mixed if self.kernel is None else mixed + self.convolve(value, mask)

    def segment_means(self, x: Tensor, landmarks: int) -> Tensor:
        """(b, h, n, e) -> (b, h, m, e) of a sequence without padding."""
        size = x.shape[2] // landmarks
        shorter = landmarks * (size + 1) - x.shape[2]  # segments of `size` tokens; then one more each
        means = [x[:, :, : shorter * size].unflatten(2, (shorter, size)).mean(dim=3)]
        if shorter < landmarks:
            means.append(x[:, :, shorter * size :].unflatten(2, (landmarks - shorter, size + 1)).mean(dim=3))
        return means[0] if len(means) == 1 else torch.cat(means, dim=2)

    def averaging(self, mask: Tensor, landmarks: int, dtype: torch.dtype) -> Tensor:
        """(b, n) -> (b, m, n): row by row the means over segments of each sequence's real tokens."""
        lengths = self.segmented_lengths(mask)  # (b, 1)
        size = lengths // landmarks
        shorter = landmarks * (size + 1) - lengths
        position = torch.arange(mask.shape[1], device=mask.device)
        ahead = position - shorter * size  # of the first segment with one token more
        segment = torch.where(ahead < 0, position // size.clamp(min=1), shorter + ahead // (size + 1))
        members = segment[:, None, :] == torch.arange(landmarks, device=mask.device)[:, None]
        chosen = (members & mask[:, None, :]).to(dtype)
        return chosen / chosen.sum(dim=-1, keepdim=True).clamp(min=1)

    def segmented_lengths(self, mask: Tensor) -> Tensor:
        """(b, n) -> (b, 1): over how many tokens the landmarks of each sequence are spread."""
        return mask.sum(dim=-1, keepdim=True)

    def landmark_weights(self, query: Tensor, key: Tensor, filled: Tensor | None) -> Tensor:
        """softmax(Q' K'^T) over landmarks with tokens, 0 in the rows of others: (b, h, m, m)."""
        # In float32 at least: the iteration below multiplies every rounding error by the condition.
        dtype = torch.promote_types(query.dtype, torch.float32)
        logits = (query.to(dtype) / math.sqrt(self.head_dim)) @ key.to(dtype).transpose(-2, -1)
        if filled is None:
            return logits.softmax(dim=-1)
        weights = logits.masked_fill(~key_mask(filled), torch.finfo(dtype).min).softmax(dim=-1)
        return weights * filled[:, None, :, None]

    def pseudo_inverse(self, weights: Tensor) -> Tensor:
        """Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4 from Z = A^T / (|A|_1 |A|_inf): (b, h, m, m).

        Both norms are those of each matrix: taken over the batch, as implementations
        do, they let a sequence depend on its neighbours.
        """
        A, shape = weights.flatten(0, 1), weights.shape
        Z = A.transpose(-2, -1) / self.initial_scale(weights).flatten(0, 1)
        for _ in range(self.pinv_iterations):
            X = torch.bmm(A, Z)
            Y = torch.baddbmm(X, X, X, beta=7, alpha=-1)
            W = torch.baddbmm(X, X, Y, beta=15, alpha=-1)
            Z = torch.baddbmm(Z, Z, W, beta=13 / 4, alpha=-1 / 4)
        return Z.view(shape)

    def initial_scale(self, weights: Tensor) -> Tensor:
        """|A|_1 |A|_inf, the largest sums of a column and of a row: (b, h, 1, 1)."""
        columns = weights.sum(dim=-2, keepdim=True).amax(dim=-1, keepdim=True)
        rows = weights.sum(dim=-1, keepdim=True).amax(dim=-2, keepdim=True)
        # Rows sum to one, so the product is at least 1, except where no token is real and all is 0.
        return (columns * rows).clamp(min=0.5)

    def convolve(self, value: Tensor, mask: Tensor | None) -> Tensor:
        """The depthwise convolution over real values: (b, h, n, e) -> (b, h, n, e)."""
        assert self.kernel is not None
        if mask is not None:
            value = value.masked_fill(~mask[:, None, :, None], 0)
        result: Tensor = _Convolution.apply(value, self.kernel.to(value.dtype))  # type: ignore[no-untyped-call]
        return result

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        num_landmarks: int = 64,
        pinv_iterations: int = 6,
        conv_kernel_size: int | None = 35,
        **options: Any,
    ) -> Cost:
        """Two attentions over m: 4 n m e per head each; four m x m products a step; the convolution."""
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        inner = num_heads * head_dim
        m = min(num_landmarks, length)
        flops = 8 * length * m * inner + 4 * m * m * inner + 8 * pinv_iterations * m**3 * num_heads
        # Landmarks of Q and K, of Q scaled, what they gathered and completed; log-sum-exps; the result of
        # the second attention. Of the iteration A Z, both brackets and Z a step, besides A and its norms.
        kept = 5 * m * inner + (m + length) * num_heads
        kept += ((4 * pinv_iterations + 2) * m * m + 2 * m + 4) * num_heads
        if conv_kernel_size is not None:
            flops += 2 * (length + -length % BLOCK) * (BLOCK + conv_kernel_size - 1) * inner
            kept += length * inner  # merged heads, apart from the attention's result
        return Cost(projections.flops + flops, projections.activation_bytes + 4 * kept)


def _full_precision(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Autocast off, where the device knows it."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


class _Convolution(torch.autograd.Function):
    """y_i = sum_t w_t x_(i + t - k // 2), a kernel w a head, zeros beyond the ends.

    Blocks of rows are products of one banded matrix with the rows around them: on a CPU 2 to 3 times
    as fast as a grouped convolution, which has nothing to share between its few channels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _convolve(x, kernel)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, kernel = ctx.saved_tensors
        heads, taps = kernel.shape
        windows = _windows(x, taps)  # (h * blocks, s, b * e)
        rows = _windows(grad, 1)  # (h * blocks, BLOCK, b * e)
        pairs = torch.bmm(rows, windows.transpose(1, 2)).unflatten(0, (heads, -1)).sum(dim=1)
        band = _band(taps, x.device).expand(heads, -1, -1)
        return _convolve(grad, kernel.flip(1)), pairs.gather(2, band).sum(dim=1)


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    batch, heads, length, width = x.shape
    taps = kernel.shape[1]
    windows = _windows(x, taps)
    banded = kernel.new_zeros(heads, BLOCK, BLOCK + taps - 1)
    index = _band(taps, x.device).expand(heads, -1, -1)
    banded = banded.scatter(2, index, kernel[:, None].expand(-1, BLOCK, -1))
    blocks = windows.shape[0] // heads
    rows = torch.bmm(banded.repeat_interleave(blocks, dim=0), windows)  # (h * blocks, BLOCK, b * e)
    return rows.view(heads, blocks * BLOCK, batch, width)[:, :length].permute(2, 0, 1, 3)


def _windows(x: Tensor, taps: int) -> Tensor:
    """(b, h, n, e) -> (h * blocks, BLOCK + taps - 1, b * e): the rows that each block of rows looks at."""
    reach = taps // 2
    rows = x.permute(1, 2, 0, 3).flatten(2)  # (h, n, b * e)
    padded = F.pad(rows, (0, 0, reach, reach + -x.shape[2] % BLOCK))
    return padded.unfold(1, BLOCK + taps - 1, BLOCK).transpose(2, 3).flatten(0, 1)


def _band(taps: int, device: torch.device) -> Tensor:
    """(BLOCK, taps): where the kernel stands in each row of the banded matrix."""
    return torch.arange(BLOCK, device=device)[:, None] + torch.arange(taps, device=device)
