"""Freezes the outputs of other implementations: `PYTHONPATH=tests python -m peers.freeze linformer`.

Without names, all of tests/peers. Needs the packages that the files name (docs/MODELS.md has the pins).
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np
import torch
from peers.peer import Parity

from lra_bench.mixer import mask_from_lengths

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
NOT_PEERS = {"peer", "freeze"}


def freeze(name: str, label: str, parity: Parity) -> Path:
    """Runs the peer once and keeps its weights, the input and the output."""
    torch.manual_seed(0)
    peer = parity.build().double().eval()
    longest = max(parity.lengths)
    x = 2 * torch.randn(len(parity.lengths), longest, parity.sizes.dim, dtype=torch.float64)
    mask = mask_from_lengths(torch.tensor(parity.lengths), longest)
    with torch.no_grad():
        y = parity.run(peer, x, mask)
    arrays = {f"state.{key}": value.numpy() for key, value in peer.state_dict().items()}
    path = GOLDEN / f"{name}-{label}.npz"
    np.savez_compressed(path, x=x.numpy(), y=y.numpy(), package=np.array(parity.package), **arrays)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names or sorted(
        path.stem for path in HERE.glob("*.py") if path.stem not in NOT_PEERS
    )
    for name in names:
        for label, parity in getattr(importlib.import_module(f"peers.{name}"), "PARITIES", {}).items():
            path = freeze(name, label, parity)
            print(f"{path.relative_to(HERE.parent)}: {parity.package}, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
