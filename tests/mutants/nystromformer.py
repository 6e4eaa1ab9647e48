"""Nystromformer with one thing wrong."""

from __future__ import annotations

import math

import torch
from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class ScaleOverTheBatch(MultiHeadMixer):
    """the first guess of the inverse is scaled by the largest norms in the batch"""

    def initial_scale(self, weights):
        return (weights.sum(-2).max() * weights.sum(-1).max()).expand(*weights.shape[:2], 1, 1)


class SegmentsOfThePaddedLength(MultiHeadMixer):
    """segments are counted over padding too"""

    def segmented_lengths(self, mask):
        return torch.full_like(super().segmented_lengths(mask), mask.shape[1])


class ConvolutionSeesPads(MultiHeadMixer):
    """padded values reach the last real tokens"""

    def convolve(self, value, mask):
        return super().convolve(value, None)


class KernelBackwards(MultiHeadMixer):
    """a convolution in place of the correlation that nn.Conv2d computes"""

    def convolve(self, value, mask):
        flipped = super().convolve(value.flip(2), None if mask is None else mask.flip(1))
        return flipped.flip(2)


class EmptyLandmarksSeen(MultiHeadMixer):
    """landmarks without a token take part in the middle softmax"""

    def landmark_weights(self, query, key, filled):
        return super().landmark_weights(query, key, None)


class LandmarksNotScaled(MultiHeadMixer):
    """1 for 1 / sqrt(e) in the middle softmax"""

    def landmark_weights(self, query, key, filled):
        return super().landmark_weights(query * math.sqrt(self.head_dim), key, filled)


class NewtonSteps(MultiHeadMixer):
    """Z (2 I - A Z), which converges more slowly, in place of the third-order steps"""

    def pseudo_inverse(self, weights):
        inverse = weights.transpose(-2, -1) / self.initial_scale(weights)
        for _ in range(self.pinv_iterations):
            inverse = 2 * inverse - inverse @ weights @ inverse
        return inverse


class TransposeForInverse(MultiHeadMixer):
    """the iteration is left out"""

    def pseudo_inverse(self, weights):
        return weights.transpose(-2, -1) / self.initial_scale(weights)


OPTIONS = {"num_landmarks": 6, "conv_kernel_size": 5}

MUTANTS = [
    Mutant(ScaleOverTheBatch, OPTIONS),
    Mutant(SegmentsOfThePaddedLength, OPTIONS),
    Mutant(ConvolutionSeesPads, OPTIONS),
    Mutant(KernelBackwards, OPTIONS),
    Mutant(EmptyLandmarksSeen, OPTIONS),
    Mutant(LandmarksNotScaled, OPTIONS),
    Mutant(NewtonSteps, OPTIONS),
    Mutant(TransposeForInverse, OPTIONS),
]
