"""Where a Pathfinder contour can start, and the border rule that the original never states."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lra_bench.tasks.pathfinder_geometry import IntArray
from lra_bench.tasks.pathfinder_parameters import ProcessParameters


def seed_kernel(mask: npt.NDArray[np.uint8], reach: int) -> IntArray:
    """(k, 2) offsets of the pixels that must be free: the full values of the mask.

    The original puts the tip one pixel off the middle of a square of side 2 * reach + 1 and cuts off
    what does not fit; so the offsets are one too large, and end at `reach`.
    """
    offsets = np.argwhere(mask == 255) - mask.shape[0] // 2 + 1
    kept: IntArray = offsets[(np.abs(offsets) <= reach).all(axis=1)].astype(np.int32)
    return kept


def closed_orientations(kernels: list[IntArray], size: int, reach: int) -> IntArray:
    """1 where no contour can start with this orientation: the border rule.

    The original finds room for a seed by dilating the mask with the seed's kernel, and its image
    library gives an output pixel whose whole kernel lies outside the image the lowest float there
    is. A check for negative values further on takes that for a failure and returns no position, not
    only there but anywhere. So an orientation whose kernel has such a pixel never starts a contour:
    330 of 360 at 32, 265 at 64, 6 at 128 with margin 2, none at the rest. Nothing in the original
    says so, and nothing in its papers; but the images depend on it: without it there are four
    times as many distractors at 32, and a classifier tells the images apart (AUC above 0.9).
    """
    # Only pixels near the border matter, so a small image has the same answer.
    side = min(size, 4 * reach + 2)
    places = np.arange(side)
    closed = np.zeros(len(kernels), np.int32)
    for index, kernel in enumerate(kernels):
        y = places[:, None] + kernel[None, :, 0]  # (side, k)
        x = places[:, None] + kernel[None, :, 1]
        inside_y = ((y >= 0) & (y < side)).astype(np.float32)
        inside_x = ((x >= 0) & (x < side)).astype(np.float32)
        seen = inside_y @ inside_x.T  # (y, x): kernel pixels inside the image
        closed[index] = bool((seen == 0).any())
    return closed


def seed_boxes(kernels: list[IntArray], closed: IntArray, parameters: ProcessParameters) -> IntArray:
    """Where the first target's tip may be: the kernel stays out of a frame twice the seed distance wide.

    The free area is a square, so the positions for a kernel are a rectangle: the square less its reach.
    """
    frame = max(2 * parameters.seed_distance, parameters.padding)
    boxes = np.zeros((len(kernels), 4), np.int32)
    for index, kernel in enumerate(kernels):
        first = frame - kernel.min(axis=0)
        last = parameters.size - frame - 1 - kernel.max(axis=0)
        extent = last - first + 1
        if not closed[index] and (extent > 0).all():
            boxes[index] = (*first, *extent)
    return boxes


def spread(kernel: IntArray) -> IntArray:
    """The same pixels in an order that jumps about, so that a check meets a taken one sooner."""
    golden = (np.arange(len(kernel)) * 0.6180339887498949) % 1.0
    return kernel[np.argsort(golden, kind="stable")]
