"""GroupBERT (Chelombiev et al. 2021), a token and a group at a time, in float64."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array, transformer
from references.proof import Proof
from scipy.special import erf
from torch import nn

from lra_bench.validation.subject import Sizes


def norm(layer: nn.Module, x: Array) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + layer.eps)
    return scaled * array(layer.weight) + array(layer.bias)


def linear(layer: nn.Module, x: Array) -> Array:
    return x @ array(layer.weight).T + array(layer.bias)


def gelu(x: Array) -> Array:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def feed_forward(module: nn.Module, x: Array, groups: int | None) -> Array:
    if groups is None:
        return linear(module[3], gelu(linear(module[0], x)))
    hidden = gelu(linear(module.expand, x))
    weight, bias = array(module.weight), array(module.bias)
    wide, narrow = weight.shape[1:]
    # One matrix with the groups along its diagonal and nothing elsewhere.
    matrix = np.zeros((groups * wide, groups * narrow))
    for g in range(groups):
        matrix[g * wide : (g + 1) * wide, g * narrow : (g + 1) * narrow] = weight[g]
    return linear(module.output_projection, hidden @ matrix + bias.reshape(-1))


def convolve(module: nn.Module, x: Array, group_size: int) -> Array:
    both = linear(module.gated_projection, x)
    length, dim = x.shape
    gated = both[:, :dim] * sigmoid(both[:, dim:])
    weight, bias = array(module.convolution.weight), array(module.convolution.bias)
    reach = weight.shape[2] // 2
    mixed = np.tile(bias, (length, 1))
    for i in range(length):
        for j in range(max(0, i - reach), min(length, i + reach + 1)):
            for channel in range(dim):
                first = channel // group_size * group_size
                mixed[i, channel] += weight[channel, :, j - i + reach] @ gated[j, first : first + group_size]
    normed = norm(module.norm, mixed)
    return linear(module.output_projection, normed * sigmoid(normed))


def groupbert(encoder: nn.Module, x: Array) -> Array:
    groups = encoder.ffn_groups if encoder.grouped_ffn else None
    for block in encoder.blocks:
        if encoder.convolution:
            x = x + convolve(block.convolution, norm(block.convolution_norm, x), encoder.conv_group_size)
        if encoder.double_ffn:
            x = x + feed_forward(block.first_ffn[1], norm(block.first_ffn[0], x), groups)
        x = x + transformer(block.mixer, norm(block.mixer_norm, x))
        x = x + feed_forward(block.ffn, norm(block.ffn_norm, x), groups)
    return norm(encoder.norm, x)


OFF = {"convolution": False, "grouped_ffn": False, "double_ffn": False}

PROOF = Proof(
    groupbert,
    {
        "all-off": OFF,
        "convolution": {**OFF, "convolution": True},
        "grouped": {**OFF, "grouped_ffn": True, "ffn_groups": 2},
        "double": {**OFF, "double_ffn": True},
        "other-sizes": {"conv_kernel_size": 3, "conv_group_size": 8, "ffn_groups": 8},
        "depthwise": {"conv_kernel_size": 5, "conv_group_size": 1, "ffn_groups": 1},
    },
    (
        {"conv_kernel_size": 4},
        {"conv_group_size": 0},
        {"conv_group_size": 12},
        {"ffn_groups": 0},
        {"ffn_groups": 3},
    ),
    sizes=Sizes(dim=32, num_heads=3, head_dim=4, max_length=48, ffn_dim=40),
)
