"""Our mixers beside public implementations of the same method: CPU time and memory kept, as ratios.

Not a test: `PYTHONPATH=tests python tests/benchmarks/mixer_speed.py [--length 1024] [--only performer]`.
Peers that are not installed are named and left out (`pip install --no-deps linformer
performer-pytorch local-attention einops hyper-connections axial-positional-embedding`).
Forward and backward of mean(y^2) for one layer with its projections. The two take turns in one
process, so that load hits both alike; process CPU time, median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from saved_bytes import saved_bytes
from torch import Tensor, nn

from lra_bench.registry import models

DIM, NUM_HEADS, HEAD_DIM = 128, 4, 32


@dataclass(frozen=True)
class Pair:
    """One of our models and the peer that does the same."""

    model: str
    options: dict[str, object]
    peer: str
    build_peer: Callable[[int], nn.Module]


class TorchAttention(nn.Module):
    """nn.MultiheadAttention; `explicit` asks for the weights and so for the n x n matrix."""

    def __init__(self, explicit: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, NUM_HEADS, batch_first=True)
        self.explicit = explicit

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=self.explicit, average_attn_weights=False)[0]


class ComposedLinearAttention(nn.Module):
    """elu(x) + 1 attention as it is usually composed: three layers and three einsums."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(DIM, DIM) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (NUM_HEADS, HEAD_DIM)) for layer in (self.query, self.key, self.value)
        )
        query, key = F.elu(query) + 1, F.elu(key) + 1
        context = torch.einsum("bnhe,bnhf->bhef", key, value)
        normaliser = 1 / (torch.einsum("bnhe,bhe->bnh", query, key.sum(1)) + 1e-6)
        return self.out(torch.einsum("bnhe,bhef,bnh->bnhf", query, context, normaliser).flatten(2))


def linformer_peer(length: int) -> nn.Module:
    from linformer import LinformerSelfAttention

    return LinformerSelfAttention(DIM, length, k=256, heads=NUM_HEADS, dim_head=HEAD_DIM)


def performer_peer(length: int) -> nn.Module:
    from performer_pytorch import SelfAttention

    return SelfAttention(DIM, heads=NUM_HEADS, dim_head=HEAD_DIM, nb_features=256)


def local_peer(look_around: int, block_size: int) -> Callable[[int], nn.Module]:
    def build(length: int) -> nn.Module:
        from local_attention import LocalMHA

        return LocalMHA(
            dim=DIM,
            window_size=block_size,
            dim_head=HEAD_DIM,
            heads=NUM_HEADS,
            causal=False,
            look_backward=look_around,
            look_forward=look_around,
            use_rotary_pos_emb=False,
        )

    return build


PAIRS = [
    Pair("transformer", {}, "nn.MultiheadAttention", lambda n: TorchAttention(explicit=False)),
    Pair(
        "transformer_explicit", {}, "nn.MultiheadAttention, weights", lambda n: TorchAttention(explicit=True)
    ),
    Pair("linformer", {"rank": 256, "sharing": "headwise"}, "linformer", linformer_peer),
    Pair("performer", {"num_features": 256}, "performer-pytorch", performer_peer),
    Pair("linear_transformer", {}, "composed einsums", lambda n: ComposedLinearAttention()),
    Pair("local", {"block_size": 64}, "local-attention", local_peer(0, 64)),
    Pair("local", {"block_size": 128, "look_around": 1}, "local-attention", local_peer(1, 128)),
]


def step(module: nn.Module, x: Tensor) -> float:
    """CPU seconds of one forward and backward pass."""
    module.zero_grad(set_to_none=True)
    x.grad = None
    start = time.process_time()
    module(x).square().mean().backward()
    return time.process_time() - start


def compare(pair: Pair, batch: int, length: int, rounds: int) -> tuple[float, float, float]:
    """Our CPU milliseconds, and ours over the peer's for time and for bytes kept."""
    torch.manual_seed(0)
    peer = pair.build_peer(length).train()
    ours = models.get(pair.model).load()(DIM, NUM_HEADS, head_dim=HEAD_DIM, max_length=length, **pair.options)
    x = torch.randn(batch, length, DIM, requires_grad=True)
    kept = saved_bytes(ours, x) / saved_bytes(peer, x)
    samples = []
    for number in range(rounds + 1):
        first, second = (ours, peer) if number % 2 else (peer, ours)
        times = {first: step(first, x)}
        times[second] = step(second, x)
        samples.append((times[ours], times[ours] / times[peer]))
    times_s, ratios = zip(*samples[1:], strict=True)  # the first round warms up
    return 1000 * statistics.median(times_s), statistics.median(ratios), kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a model's name")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"batch {arguments.batch_size}, n {arguments.length}, d {DIM}, h {NUM_HEADS}, {torch.__version__}")
    print(f"{'model':40}{'peer':34}{'CPU ms':>9}{'time x':>9}{'kept x':>9}")
    for pair in PAIRS:
        if arguments.only not in pair.model:
            continue
        label = " ".join([pair.model, *(f"{name}={value}" for name, value in pair.options.items())])
        try:
            result = compare(pair, arguments.batch_size, arguments.length, arguments.rounds)
        except ImportError as error:
            print(f"{label:40}{pair.peer:34}not installed ({error})", file=sys.stderr)
            continue
        print(f"{label:40}{pair.peer:34}{result[0]:9.1f}{result[1]:9.2f}{result[2]:9.2f}")


if __name__ == "__main__":
    main()
