"""Images with two discs and clutter, drawn point by point, and the order in which to name the discs."""

from __future__ import annotations

import numpy as np

RADII = {32: 1.5, 64: 2.5, 128: 3.0, 256: 5.0}


def image_with_discs(rng, side, centres, grey):
    """(side, side) uint8: thin random walks darker and brighter than the discs, then the discs."""
    image = np.zeros((side, side))
    for _ in range(6):
        y, x = (int(v) for v in rng.integers(0, side, 2))
        value = int(rng.integers(60, 256))
        # Diagonal walks, one pixel wide: they never fill a disc.
        dy, dx = (int(v) for v in rng.choice([-1, 1], 2))
        for _ in range(side // 3):
            image[y % side, x % side] = value
            y, x = y + dy, x + dx
    for y, x in centres:
        draw_disc(image, y, x, RADII[side], grey)
    return image.astype(np.uint8)


def draw_disc(image, centre_y, centre_x, radius, grey):
    """By maximum: each pixel has the share of its 2 x 2 subpixels that the disc covers, times `grey`."""
    reach = int(radius) + 2
    for y in range(max(centre_y - reach, 0), min(centre_y + reach + 1, len(image))):
        for x in range(max(centre_x - reach, 0), min(centre_x + reach + 1, len(image))):
            covered = 0
            for sub_y in (2 * y, 2 * y + 1):
                for sub_x in (2 * x, 2 * x + 1):
                    covered += np.hypot(sub_y - 2 * centre_y, sub_x - 2 * centre_x) <= 2 * radius
            image[y, x] = max(image[y, x], grey * covered / 4)


def nearer_to_centre_first(side, centres):
    """[y, x, y, x] of two places; of equally near ones, the one first in reading order."""
    middle = (side - 1) / 2
    ordered = sorted(centres, key=lambda p: ((p[0] - middle) ** 2 + (p[1] - middle) ** 2, tuple(p)))
    return [int(v) for place in ordered for v in place]
