"""Performer: softmax attention estimated with positive orthogonal random features (FAVOR+)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.errors import require
from lra_bench.mixer import Cost, MultiHeadMixer, key_mask


class Performer(MultiHeadMixer):
    """phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)), where E[phi(q) phi(k)^T] = exp(q k^T / sqrt(e)).

    Rethinking Attention with Performers. Choromanski, Likhosherstov, Dohan, Song, Gane, Sarlos,
    Hawkins, Davis, Mohiuddin, Kaiser, Belanger, Colwell, Weller, 2020, arXiv 2009.14794:
    positive features, eq. 5 and lemma 1; orthogonality, section 2.4; redrawing, section 4.2.
    There are no attention weights, hence no dropout on them.

    num_features: m, the random features per head; all heads of a layer share them.
    orthogonal: rows of the projection are orthogonal within blocks of e, with the norms of
        independent Gaussian rows.
    redraw_interval: training passes between two draws; 0 keeps the first draw for good.
    eps: added to every feature of a query and of a real key, as in the authors' code.
    """

    projection: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_features: int = 256,
        orthogonal: bool = True,
        redraw_interval: int = 1000,
        eps: float = 1e-6,
        **shape: Any,
    ) -> None:
        super().__init__(dim, num_heads, **shape)
        require(num_features >= 1, "num_features", num_features, "at least 1")
        require(redraw_interval >= 0, "redraw_interval", redraw_interval, "at least 0 (0 never redraws)")
        require(eps > 0, "eps", eps, "above 0, or a row without a real key divides by zero")
        self.num_features = num_features
        self.orthogonal = orthogonal
        self.redraw_interval = redraw_interval
        self.eps = eps
        # Python numbers, not buffers: reading a counter on an accelerator would stall every step.
        self._seed = int(torch.randint(2**62, (), device="cpu"))
        self._training_passes = 0
        self.register_buffer("projection", torch.empty(num_features, self.head_dim))
        self._draw()

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if self.training:
            self._count_training_pass()
        # |q|^2 is the same for all features of a query, so it cancels with the constants below.
        query_features = self.projected(query)  # (b, h, n, m)
        key_features = self.log_features(key)
        real = None if mask is None else key_mask(mask)  # (b, 1, 1, n)
        if real is not None:
            key_features.masked_fill_(~real.transpose(-2, -1), -math.inf)
        # Any constant per query, and any per head for all keys, cancels in the end up to eps. With
        # these, the largest exponent is 0; masked keys have no say in it. As in the authors' code
        # they are constants to backward too, which costs the gradient a relative error of about eps.
        query_features.sub_(query_features.detach().amax(dim=-1, keepdim=True)).exp_()
        key_features.sub_(key_features.detach().amax(dim=(-2, -1), keepdim=True)).exp_()

        # A column of ones beside V turns the normaliser into one more column of the same products.
        extended = F.pad(value, (0, 1), value=1.0)  # (b, h, n, e + 1)
        total = extended.sum(-2, keepdim=True) if real is None else real.to(value.dtype) @ extended
        # Adding eps to every feature adds eps times plain sums: no second n x m array is made.
        context = key_features.transpose(-2, -1) @ extended + self.eps * total  # (b, h, m, e + 1)
        mixed = query_features @ context + self.eps * context.sum(-2, keepdim=True)  # (b, h, n, e + 1)
        return mixed[..., :-1] / mixed[..., -1:]

    def projected(self, x: Tensor) -> Tensor:
        """(b, h, n, e) -> (b, h, n, m): w x / e^(1/4), the softmax's scale split between both sides."""
        return x @ (self.projection * math.pow(self.head_dim, -0.25)).T

    def log_features(self, x: Tensor) -> Tensor:
        """(b, h, n, e) -> (b, h, n, m): log of sqrt(m) phi(x) = w x / e^(1/4) - |x|^2 / (2 sqrt(e))."""
        minus_half_square = x.square().sum(dim=-1, keepdim=True) * (-0.5 / math.sqrt(self.head_dim))
        return self.projected(x).add_(minus_half_square)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _count_training_pass(self) -> None:
        passes, interval = self._training_passes, self.redraw_interval
        if interval and passes and passes % interval == 0:
            self._draw()
        self._training_passes += 1

    @torch.no_grad()
    def _draw(self) -> None:
        """Draws the projection from the seed and the number of draws so far, and nothing else."""
        draw = self._training_passes // self.redraw_interval if self.redraw_interval else 0
        generator = torch.Generator("cpu").manual_seed((self._seed + draw) % 2**63)
        draw_rows = orthogonal_gaussian if self.orthogonal else gaussian
        self.projection.copy_(draw_rows(self.num_features, self.head_dim, generator))

    def get_extra_state(self) -> Tensor:
        """Seed and counter travel with the weights, so that a resumed run draws what it would have."""
        return torch.tensor([self._seed, self._training_passes], device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self._seed, self._training_passes = (int(number) for number in state)

    @classmethod
    def cost(
        cls,
        length: int,
        dim: int,
        num_heads: int,
        *,
        head_dim: int,
        num_features: int = 256,
        **options: Any,
    ) -> Cost:
        """Features of Q and K: 2 n m e per head each; phi(K)^T V and phi(Q) times it: 2 n m (e + 1)."""
        projections = cls.projection_cost(length, dim, num_heads, head_dim)
        inner = num_heads * head_dim
        features = num_heads * num_features
        # Features of Q and K; V with its column and the products' result; the context.
        kept = 2 * length * features + 2 * length * (inner + num_heads) + features * (head_dim + 1)
        return Cost(
            projections.flops + 4 * length * features * (2 * head_dim + 1),
            projections.activation_bytes + 4 * kept,
        )


def gaussian(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """(rows, columns) of independent standard normal numbers, float64."""
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64, device="cpu")


def orthogonal_gaussian(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Rows orthogonal within blocks of `columns`, each distributed as a standard normal vector."""
    blocks = -(-rows // columns)
    draws = gaussian(blocks * columns, columns, generator).reshape(blocks, columns, columns)
    Q, R = torch.linalg.qr(draws)
    # With the signs of R's diagonal, Q is uniform over the orthogonal group; without, it is not.
    directions = (Q * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)).transpose(-2, -1).flatten(0, 1)
    norms = gaussian(rows, columns, generator).square().sum(dim=-1, keepdim=True).sqrt()  # chi(e)
    scaled: Tensor = directions[:rows] * norms
    return scaled
