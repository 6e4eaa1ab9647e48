"""How the controls compare the two sequences of a pair: as the dual encoder of the models does."""

from __future__ import annotations

import torch
from torch import Tensor


def pair_features(first: Tensor, second: Tensor) -> Tensor:
    """(b, d), (b, d) -> (b, 4 d): both, their product and their difference.

    Tay et al. 2021 (arXiv 2011.04006), section 2.4, equation 1.
    """
    return torch.cat([first, second, first * second, first - second], dim=-1)
