"""The programs of section 5 of HAND_COUNT.md: (model, optimiser, batch, step) of each."""

import torch
import torch.nn.functional as F
from measure.hand_counted import (
    BATCH,
    CLASSES,
    DIM,
    HEADS,
    LENGTH,
    VOCABULARY,
    Block,
    Encoder,
    build_encoder,
    build_mlp,
    training_step,
)
from torch import nn

N = 1_048_576


class FusedBlock(Block):
    def attend(self, y):
        e = DIM // HEADS
        q, k, v = (part.unflatten(-1, (HEADS, e)).transpose(1, 2) for part in self.qkv(y).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class FusedEncoder(Encoder):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(FusedBlock(), FusedBlock())


class Sort(nn.Module):
    def forward(self, x):
        return torch.sort(x)


class FourierConvolution(nn.Module):
    def forward(self, x, w):
        return torch.fft.irfft(torch.fft.rfft(x) * w, N)


def build_fused_encoder():
    torch.manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    return FusedEncoder(), ids, torch.randint(0, CLASSES, (BATCH,))


def _trained(build):
    model, inputs, labels = build()
    optimizer, step = training_step(model, inputs, labels)
    return model, optimizer, (inputs, labels), step


def mlp():
    return _trained(build_mlp)


def explicit():
    return _trained(build_encoder)


def fused():
    return _trained(build_fused_encoder)


def convolution():
    model, x = nn.Conv1d(64, 64, 9, padding=4, bias=False), torch.ones(8, 64, 4096)

    def step():
        model(x).sum().backward()

    return model, None, (x,), step


def sort():
    model, x = Sort(), torch.rand(N, generator=torch.Generator().manual_seed(0))

    def step():
        model(x)

    return model, None, (x,), step


def fourier():
    model, x, w = FourierConvolution(), torch.ones(N), torch.ones(N // 2 + 1, dtype=torch.complex64)

    def step():
        model(x, w)

    return model, None, (x, w), step


PROGRAMS = {
    "mlp": mlp,
    "explicit": explicit,
    "fused": fused,
    "convolution": convolution,
    "sort": sort,
    "fourier": fourier,
}
