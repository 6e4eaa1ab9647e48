"""S4D (Gu et al. 2022) as the recurrence it stands for, a token at a time, in complex float64."""

from __future__ import annotations

import numpy as np
from references.attention import Array, array
from references.proof import Proof
from scipy.special import erf
from torch import nn


def discretized(kernel: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Of x' = A x + 1 u, by the textbook: (d, N / 2) each."""
    A = -np.exp(array(kernel.log_A_real)) + 1j * array(kernel.A_imag)
    dt = np.exp(array(kernel.log_dt))[:, None]
    if kernel.discretization == "zoh":
        return np.exp(dt * A), (np.exp(dt * A) - 1) / A
    return (1 + dt / 2 * A) / (1 - dt / 2 * A), dt / (1 - dt / 2 * A)


def run(a: np.ndarray, B: np.ndarray, C: np.ndarray, u: Array) -> Array:
    """States of all channels, from the first token to the last: (n, d) -> (n, d)"""
    state = np.zeros_like(a)
    outputs = []
    for token in u:
        state = a * state + B * token[:, None]
        # The state that is not held is the conjugate, and adds the conjugate.
        outputs.append((C * state + np.conj(C * state)).real.sum(axis=1))
    return np.stack(outputs)


def s4d(mixer: nn.Module, x: Array) -> Array:
    a, B = discretized(mixer.kernel)
    C = array(mixer.kernel.C)
    C = C[..., 0] + 1j * C[..., 1]
    y = run(a, B, C[0], x) + array(mixer.D) * x
    if mixer.bidirectional:
        y = y + run(a, B, C[1], x[::-1])[::-1]
    if mixer.activation == "gelu":
        y = y * (1 + erf(y / np.sqrt(2))) / 2
    mixed = y @ array(mixer.output_projection.weight).T + array(mixer.output_projection.bias)
    if not mixer.gated:
        return mixed
    width = x.shape[1]
    return mixed[:, :width] / (1 + np.exp(-mixed[:, width:]))


PROOF = Proof(
    s4d,
    {
        "bilinear": {"discretization": "bilinear", "state_size": 8},
        "inverse": {"init": "inv", "state_size": 16},
        "one-direction": {"bidirectional": False, "state_size": 6},
        "plain-output": {"activation": "none", "gated": False, "state_size": 2},
        "large-steps": {"dt_min": 0.5, "dt_max": 2.0, "state_size": 8},
    },
    (
        {"state_size": 0},
        {"state_size": 7},
        {"init": "cosine"},
        {"dt_min": 0.0},
        {"dt_max": 0.0001},
        {"discretization": "euler"},
        {"activation": "relu"},
    ),
)
