"""The two models of HAND_COUNT.md, and a training step as it is defined there."""

import torch
import torch.nn.functional as F
from torch import nn

BATCH, LENGTH, DIM, HEADS, HIDDEN, VOCABULARY, CLASSES = 4, 512, 64, 2, 128, 32, 10


def build_mlp():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return model, torch.randn(64, 256), torch.randint(0, 10, (64,))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.up, self.down = nn.Linear(DIM, HIDDEN), nn.Linear(HIDDEN, DIM)

    def attend(self, y):
        e = DIM // HEADS
        q, k, v = (part.unflatten(-1, (HEADS, e)).transpose(1, 2) for part in self.qkv(y).chunk(3, dim=-1))
        weights = (q @ k.transpose(-2, -1) * e**-0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, DIM)
        self.blocks = nn.Sequential(Block(), Block())
        self.final_norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, ids):
        return self.head(self.final_norm(self.blocks(self.embedding(ids))).mean(1))


def build_encoder():
    torch.manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    return Encoder(), ids, torch.randint(0, CLASSES, (BATCH,))


def training_step(model, inputs, labels):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False, fused=False)

    def step():
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()

    return optimizer, step
