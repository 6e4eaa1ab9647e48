"""The control that sees where Pathfinder's two end markers are and nothing of any contour."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lra_bench.data.task import TaskSpec
from lra_bench.errors import UsageError, require

MARKER_RADII = {32: 1.5, 64: 2.5, 128: 3.0, 256: 5.0}
"""In pixels, by the side of the image: the settings of the 2020 release's Pathfinder."""
SUBPIXELS = 2
"""Markers are drawn at this many times the size in each direction and then reduced."""
LEAST_COVERAGE = 0.5
"""Pixels of which a disc covers less say little about where it is."""


class MarkerPositions(nn.Module):
    """Finds both markers, then classifies by their coordinates alone.

    forward: (b, n) int64, (b, n) bool or None -> (b, classes). The markers are the two places where the
    whole of a disc is brightest. Their coordinates, of the marker nearer to the centre first, go
    through cosines to a perceptron; brightness and everything else in the image are dropped.

    hidden_dim: width of both hidden layers.
    num_frequencies: cosines per coordinate, of 1, 2, .. half periods over the image. Few make it
        smooth: from 20,000 images, 4 give 67.6 %, and 8 give 66.9 %.
    marker_radius: of the discs in pixels; by default that of the image's size.
    """

    levels: Tensor
    frequencies: Tensor

    def __init__(
        self,
        spec: TaskSpec,
        *,
        hidden_dim: int = 64,
        num_frequencies: int = 4,
        marker_radius: float | None = None,
    ) -> None:
        super().__init__()
        require(hidden_dim >= 1, "hidden_dim", hidden_dim, "at least 1")
        require(num_frequencies >= 1, "num_frequencies", num_frequencies, "at least 1")
        if marker_radius is not None:
            require(marker_radius >= 1, "marker_radius", marker_radius, "at least 1 pixel")
        if spec.paired or not all(token.isdecimal() and int(token) < 256 for token in spec.vocabulary):
            raise UsageError(
                f"marker_positions reads images whose tokens are grey levels 0 to 255, and the task "
                f"{spec.task!r} has others. Use it on pathfinder or pathx, or another control here."
            )
        self.side = math.isqrt(spec.max_length)
        usual_radius = MARKER_RADII[min(MARKER_RADII, key=lambda size: abs(size - self.side))]
        self.marker_radius = usual_radius if marker_radius is None else marker_radius
        coverage = disc_coverage(self.marker_radius)
        self.shares = sorted(set(coverage.values()))
        self.offsets = [[place for place, share in coverage.items() if share == s] for s in self.shares]
        grey = torch.tensor([int(token) for token in spec.vocabulary], dtype=torch.float64)
        # A pixel half covered by a disc of grey g has g / 2: divided by its share, all have g.
        levels = torch.stack([(grey / share).clamp(max=255) for share in self.shares])
        self.register_buffer("levels", levels.to(torch.uint8), persistent=False)  # (shares, v)
        frequencies = math.pi * torch.arange(1, num_frequencies + 1, dtype=torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.perceptron = nn.Sequential(
            nn.Linear(4 * num_frequencies, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, spec.num_classes),
        )

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            places = (self.positions(input_ids, mask) + 0.5) / self.side  # (b, 4) in (0, 1)
            features = torch.cos(places[..., None] * self.frequencies).flatten(1)  # (b, 4 f)
        logits: Tensor = self.perceptron(features)
        return logits

    @torch.no_grad()
    def positions(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, n) -> (b, 4) int64: y and x of the marker nearer to the centre, then of the other.

        Raises:
            UsageError: the sequence is not one image.
        """
        pixels = self.side**2
        if input_ids.shape[1] < pixels or (mask is None and input_ids.shape[1] > pixels):
            raise UsageError(
                f"marker_positions was built for images of {self.side} x {self.side} = {pixels} tokens and "
                f"got {input_ids.shape[1]}."
            )
        # What stands beyond the image is padding.
        brightness = self.disc_brightness(input_ids[:, :pixels].reshape(-1, self.side, self.side))
        first = brightness.flatten(1).argmax(dim=1)  # (b,); of equal ones the first in reading order
        y, x = first // self.side, first % self.side
        line = torch.arange(self.side, device=input_ids.device)
        distance = (line[:, None] - y[:, None, None]) ** 2 + (line - x[:, None, None]) ** 2  # (b, s, s)
        # Two discs may overlap: only the place itself and the four next to it can't be the second.
        elsewhere = brightness.masked_fill(distance <= 1, 0)
        second = elsewhere.flatten(1).argmax(dim=1)
        found = torch.stack([first, second], dim=1)  # (b, 2)
        # Ordered by places alone: which of the two was brighter must not show.
        from_centre = (2 * (found // self.side) - self.side + 1) ** 2
        from_centre = from_centre + (2 * (found % self.side) - self.side + 1) ** 2
        key = from_centre * pixels + found
        ordered = found.where(key[:, :1] <= key[:, 1:], found.flip(1))
        return torch.stack([ordered // self.side, ordered % self.side], dim=2).flatten(1)

    def disc_brightness(self, images: Tensor) -> Tensor:
        """(b, s, s) tokens -> (b, s, s) uint8: the darkest pixel of a disc around each place.

        A disc is laid over an image by maximum. So at a marker the value is at least the marker's grey,
        whatever crosses it, and elsewhere something else would have to fill a whole disc.
        """
        reach = max(abs(offset) for places in self.offsets for place in places for offset in place)
        darkest: Tensor | None = None
        for level, places in zip(self.levels, self.offsets, strict=True):
            padded = F.pad(level[images], (reach, reach, reach, reach))
            for y, x in places:
                top, left = reach + y, reach + x
                moved = padded[:, top : top + self.side, left : left + self.side]
                darkest = moved if darkest is None else torch.minimum(darkest, moved)
        assert darkest is not None
        return darkest


def disc_coverage(radius: float) -> dict[tuple[int, int], float]:
    """{(y, x): share} of the pixels around a disc's centre that it covers by half or more.

    The centre is subpixel (0, 0), as in the generator, so that a disc leans up and left a little.
    """
    reach = math.ceil(radius) + 1
    subpixel = torch.arange(-reach * SUBPIXELS, (reach + 1) * SUBPIXELS, device="cpu")
    inside = subpixel[:, None] ** 2 + subpixel**2 <= (radius * SUBPIXELS) ** 2
    pixels = 2 * reach + 1
    shares = inside.double().reshape(pixels, SUBPIXELS, pixels, SUBPIXELS).mean(dim=(1, 3)).tolist()
    return {
        (y - reach, x - reach): share
        for y, row in enumerate(shares)
        for x, share in enumerate(row)
        if share >= LEAST_COVERAGE
    }
