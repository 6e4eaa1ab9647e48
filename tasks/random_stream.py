"""The random stream of the generators: splitmix64, keyed by (seed, index), compiled.

Every example has a stream of its own, so that it is the same for any number of workers and any
order. The step and its constants are those of Steele, Lea and Flood, "Fast splittable pseudorandom
number generators" (OOPSLA 2014, figure 17 and Java's SplittableRandom).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 2.0**-53


@njit(cache=True, nogil=True, inline="always")
def _scramble(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@njit(cache=True, nogil=True)
def stream_state(seed, index):  # type: ignore[no-untyped-def]
    """Start state of example `index` under `seed`: two scrambled steps, so that neighbours are unrelated."""
    return _scramble(_scramble(np.uint64(seed) + _STEP) ^ (np.uint64(index) * _STEP + _MIX_1))


@njit(cache=True, nogil=True)
def uniform(state):  # type: ignore[no-untyped-def]
    """Next draw in [0, 1), 53 bits. `state` is a uint64 array of one element, advanced in place."""
    state[0] += _STEP
    return (_scramble(state[0]) >> _S11) * _TO_UNIT


@njit(cache=True, nogil=True)
def randint(state, high):  # type: ignore[no-untyped-def]
    """Next draw from 0..high-1."""
    return int(uniform(state) * high)
