"""Where a Pathfinder contour can go: orientations, steps, and the circle of next positions.

An angle is measured from the x axis towards y, which points down; positions are (y, x).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lra_bench.tasks.pathfinder_lines import line_ends
from lra_bench.tasks.pathfinder_parameters import ProcessParameters

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

NUM_SEED_ORIENTATIONS = 360
"""A first segment points along a whole degree; every later one along a candidate's angle."""


def seed_angles() -> FloatArray:
    half = NUM_SEED_ORIENTATIONS // 2
    return np.arange(-half, half) * np.pi / 180


def displacements(distance: int, angles: FloatArray) -> FloatArray:
    """(n, 2): `distance` along each angle, unrounded. The kernel adds it to a position and takes the
    ceiling of the sum: in double precision that differs from adding a ceiling."""
    # math, not numpy: numpy's vectorised sine differs in the last bit between processors.
    return np.array([(distance * math.sin(angle), distance * math.cos(angle)) for angle in angles.tolist()])


def candidate_circle(step: int) -> tuple[IntArray, FloatArray]:
    """Whole pixels on a circle at one pixel of arc: (n, 2) in lexicographic order, and their angles."""
    degrees = np.arange(0, 360, 360.0 / (2 * step * np.pi))
    points = displacements(step, degrees * np.pi / 180)
    # The original takes the floor of positions in the image: there a sine of 1e-16 is lost, not -1.
    base = 64
    positions = np.unique(np.floor(points + base).astype(np.int32) - base, axis=0)
    angles = np.array([math.atan2(y, x) for y, x in positions.tolist()])
    return positions, angles


def lines_at(parameters: ProcessParameters, margin: int, angles: FloatArray) -> IntArray:
    """The line, by its place in the table of lines, that the original draws for each angle."""
    scale = parameters.antialias
    half = parameters.segment_length + math.ceil(parameters.thickness) + margin
    index = {end: place for place, end in enumerate(line_ends(round(parameters.thickness * scale)))}
    centre = half * scale
    ends = np.ceil(centre + displacements(parameters.segment_length * scale, angles)).astype(int) - centre
    return np.array([index[end_y, end_x] for end_y, end_x in ends.tolist()], np.int32)


def candidate_lists(
    orientations: FloatArray, positions: IntArray, angles: FloatArray, continuity: float
) -> tuple[IntArray, FloatArray, IntArray]:
    """Per last orientation: candidates whose turn is possible, and their weights cos^2(c * turn)."""
    turn = np.abs(orientations[:, None] - angles[None, :])
    turn = np.minimum(turn, 2 * np.pi - turn)
    weights = np.cos(np.minimum(turn * continuity, 0.5 * np.pi)) ** 2  # (o, c)
    # At the limit the cosine is 6e-17, not 0.
    possible = weights > 1e-30
    lists, kept = [], []
    for row, keep in zip(weights, possible, strict=True):
        chosen = np.flatnonzero(keep)
        lists.append(np.column_stack([positions[chosen], NUM_SEED_ORIENTATIONS + chosen]).astype(np.int32))
        kept.append(row[chosen])
    return stack(lists), stack(kept), possible.sum(axis=1).astype(np.int32)


def stack(tables: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Stacks tables that may differ in length along any axis; the rest is 0."""
    shape = np.max([table.shape for table in tables], axis=0).astype(int)
    stacked = np.zeros((len(tables), *shape), tables[0].dtype)
    for index, table in enumerate(tables):
        corner: tuple[Any, ...] = (index, *(slice(extent) for extent in table.shape))
        stacked[corner] = table
    return stacked
