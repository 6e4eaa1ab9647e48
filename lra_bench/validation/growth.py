"""A card's claimed growth, read from its text and fitted to measured costs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from lra_bench.errors import UsageError

_POWER = re.compile(r"\bn(?:\^(\d+(?:\.\d+)?))?(?![\w])")


@dataclass(frozen=True)
class Growth:
    """The fastest-growing term of a claim such as `n^2 h + n d`, as a function of n alone."""

    power: float
    logarithms: int
    text: str

    def __call__(self, length: float) -> float:
        return float(length**self.power * math.log2(max(length, 2)) ** self.logarithms)


def parse_growth(claim: str) -> Growth:
    """Reads the powers of n in `n^2 d`, `n log n d`, `n sqrt(n) d`, `n b d + n`; other symbols are constants.

    Raises:
        UsageError: a term that can't be read.
    """
    terms = []
    for term in claim.split("+"):
        text = term.replace("sqrt(n)", "n^0.5").replace("log(n)", "log n")
        logarithms = len(re.findall(r"\blog n\b", text))
        text = re.sub(r"\blog n\b", "", text)
        power = sum(float(found or 1) for found in _POWER.findall(text))
        if "(" in text or ")" in text:
            raise UsageError(
                f"The growth {claim!r} can't be read: write a sum of products such as 'n^2 d + n log n d'."
            )
        terms.append((power, logarithms))
    power, logarithms = max(terms)
    return Growth(power, logarithms, claim)


@dataclass(frozen=True)
class Fit:
    """Non-negative a + b n + c g(n), least squares in relative errors."""

    constant: float
    linear: float
    claimed: float
    r2: float
    residual: float
    """Largest relative difference from a measured value."""


def fit(growth: Growth, lengths: Sequence[int], values: Sequence[float]) -> Fit:
    """Fits the claimed form to measured costs."""
    n = np.asarray(lengths, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64)
    scale = n.max()
    columns = [np.ones_like(n), n / scale]
    # A second linear column would make the fit singular.
    if (growth.power, growth.logarithms) not in ((1.0, 0), (0.0, 0)):
        columns.append(np.array([growth(length) / growth(scale) for length in n]))
    design = np.stack(columns, axis=1)
    weights, _ = nnls(design / y[:, None], np.ones_like(y))
    predicted = design @ weights
    total = float(((y - y.mean()) ** 2).sum())
    r2 = 1.0 if total == 0 else 1.0 - float(((y - predicted) ** 2).sum()) / total
    third = float(weights[2]) if len(weights) > 2 else 0.0
    residual = float(np.abs(predicted / y - 1).max())
    return Fit(float(weights[0]), float(weights[1]), third, r2, residual)
