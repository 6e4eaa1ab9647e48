"""The geometry of Pathfinder as tables that the compiled kernel reads.

Everything that a contour can do is finite: 360 starting orientations, a few dozen next positions on
a circle, one stamp for each. All of it is worked out here once, in numpy.

Positions are (y, x) with y down; an orientation is an angle in that frame. The kernel's canvases
carry a border of `BORDER` pixels that no image pixel is in, so that reads need no bounds checks; an
offset is dy * pitch + dx there. Tables have a leading axis for the margin (one or two of them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lra_bench.tasks.pathfinder_geometry import (
    NUM_SEED_ORIENTATIONS,
    FloatArray,
    IntArray,
    candidate_circle,
    candidate_lists,
    displacements,
    lines_at,
    seed_angles,
    stack,
)
from lra_bench.tasks.pathfinder_parameters import CLASH_SUM, ProcessParameters
from lra_bench.tasks.pathfinder_seeding import closed_orientations, seed_boxes, seed_kernel, spread
from lra_bench.tasks.pathfinder_stamps import build_stamps, disc

UInt8Array = npt.NDArray[np.uint8]
BORDER = 16
"""At least the reach of every stamp, seed kernel and disc (10 at most)."""


@dataclass(frozen=True)
class Tables:
    """What the kernel reads; m is the margin, o an orientation, s a stamp, e an entry."""

    pitch: int
    """Width of a canvas with its borders."""
    stamp_of: IntArray
    """(m, o): the 360 seed orientations, then one per candidate. A candidate's stamp points backwards,
    because its tip is the contour's new end."""
    mask_entries: IntArray
    """(m, s, e, 3): offset, value, and the least canvas value it clashes with; largest values first."""
    mask_counts: IntArray
    """(m, s, 2): entries that are not 0, and the leading ones that can clash at all."""
    line_entries: IntArray
    """(m, s, e, 2): offset and value of the drawn dash."""
    line_counts: IntArray
    """(m, s)"""
    pivot_step: FloatArray
    """(m, o, 2): from a contour's pivot to its next one."""
    candidates: IntArray
    """(m, o, c, 3): dy, dx from the next pivot to a possible next tip, and that tip's orientation."""
    candidate_weights: FloatArray
    """(m, o, c)"""
    candidate_counts: IntArray
    """(m, o)"""
    gap_offsets: IntArray
    """(m, g): the disc within which a taken pixel lowers a candidate's weight."""
    gap_counts: IntArray
    """(m,)"""
    seed_head: FloatArray
    """(360, 2): from a first segment's tip to its other end."""
    seed_pivot: FloatArray
    """(m, 360, 2): from that end to the first pivot."""
    seed_kernel: IntArray
    """(m, 360, k): offsets of the pixels that must be free for a segment to start."""
    seed_kernel_counts: IntArray
    """(m, 360)"""
    seed_box: IntArray
    """(m, 360, 4): where the first target may start: first y, first x, height, width. Height 0: nowhere."""
    seed_closed: IntArray
    """(m, 360): 1 where the border rule lets nothing start with this orientation."""
    partner_step: FloatArray
    """(360, 2): from the first target's tip to the second's, by angle in degrees."""
    frame: UInt8Array
    """(pitch * pitch,): an empty mask, 255 in the padding and 0 elsewhere and in the border."""
    inside: UInt8Array
    """(pitch * pitch,): 255 in the image, 0 in the border."""
    free_weight: FloatArray
    """(256,): factor of a candidate's weight by the largest mask value near it."""
    brightness: FloatArray
    """(3, 256): of a stamp value in a target, a distractor and a marker."""
    markers: UInt8Array
    """Discs by border class, see `pathfinder_stamps.Stamps`."""


def build_tables(parameters: ProcessParameters, *, border_rule: bool = True) -> Tables:
    """Tables of a variant.

    border_rule: the seeding rule of the 2019 generator, see
    `pathfinder_seeding.closed_orientations`. It is off only in the test which shows that the
    distribution tests notice its absence.
    """
    pitch = parameters.size + 2 * BORDER
    stamps = build_stamps(parameters)
    per_margin = [
        _margin_tables(parameters, margin, line, mask, pitch, border_rule)
        for margin, line, mask in zip(parameters.margins, stamps.lines, stamps.masks, strict=True)
    ]
    starts = seed_angles()
    partner_angles = np.arange(NUM_SEED_ORIENTATIONS) * np.pi / 180
    values = np.arange(256)
    contrasts = np.array([parameters.target_contrast, parameters.distractor_contrast])
    levels = values / 255.0
    return Tables(
        pitch=pitch,
        seed_head=displacements(parameters.segment_length, starts),
        partner_step=displacements(parameters.seed_distance, partner_angles),
        frame=_frame(parameters.size, parameters.padding),
        inside=_frame(parameters.size, 0) ^ np.uint8(255),
        # The original keeps its stamps in single precision and computes with them in double.
        free_weight=1.0 - levels.astype(np.float32).astype(np.float64),
        brightness=np.vstack(
            [(levels * contrasts[:, None]).astype(np.float32).astype(np.float64), levels[None, :]]
        ),
        markers=stamps.markers,
        **{name: stack([tables[name] for tables in per_margin]) for name in per_margin[0]},
    )


def _margin_tables(
    parameters: ProcessParameters,
    margin: int,
    lines: UInt8Array,
    masks: UInt8Array,
    pitch: int,
    border_rule: bool,
) -> dict[str, npt.NDArray[Any]]:
    """The tables of one margin, without the leading axis."""
    length = parameters.segment_length
    step = length + margin
    starts = seed_angles()
    positions, angles = candidate_circle(step)
    orientations = np.concatenate([starts, angles])
    backwards = np.where(angles < 0, angles + np.pi, angles - np.pi)
    stamps = lines_at(parameters, margin, np.concatenate([starts, backwards]))
    candidates, weights, counts = candidate_lists(orientations, positions, angles, parameters.continuity)
    reversed_seeds = np.where(starts < 0, starts + np.pi, starts - np.pi)
    kernels = [seed_kernel(mask, step) for mask in masks]
    by_seed = [kernels[stamp] for stamp in stamps[:NUM_SEED_ORIENTATIONS]]
    closed = closed_orientations(by_seed, parameters.size, step)
    if not border_rule:
        closed[:] = 0
    mask_entries, mask_counts = _mask_entries(masks, pitch)
    line_entries, line_counts = _line_entries(lines, pitch)
    gap = np.argwhere(disc(margin)) - margin
    return {
        "stamp_of": stamps,
        "mask_entries": mask_entries,
        "mask_counts": mask_counts,
        "line_entries": line_entries,
        "line_counts": line_counts,
        "pivot_step": displacements(length + 2 * margin, orientations),
        "candidates": candidates,
        "candidate_weights": weights,
        "candidate_counts": counts,
        "gap_offsets": _offsets(gap, pitch),
        "gap_counts": np.array(len(gap), np.int32),
        "seed_pivot": displacements(step, reversed_seeds),
        "seed_kernel": stack([_offsets(spread(kernel), pitch) for kernel in by_seed]),
        "seed_kernel_counts": np.array([len(kernel) for kernel in by_seed], np.int32),
        "seed_box": seed_boxes(by_seed, closed, parameters),
        "seed_closed": closed,
    }


def _mask_entries(masks: UInt8Array, pitch: int) -> tuple[IntArray, IntArray]:
    """Entries (offset, value, least value it clashes with) of each mask, and their two counts."""
    single = (np.arange(256) / 255.0).astype(np.float32).astype(np.float64)
    clashes = single[:, None] + single[None, :] >= CLASH_SUM  # (mask value, canvas value)
    least = np.where(clashes.any(axis=1), clashes.argmax(axis=1), 256)
    half = masks.shape[1] // 2
    entries, counts = [], []
    for mask in masks:
        places = np.argwhere(mask)
        values = mask[mask > 0].astype(np.int32)
        order = np.argsort(-values, kind="stable")
        values = values[order]
        offsets = _offsets(places[order] - half, pitch)
        entries.append(np.column_stack([offsets, values, least[values]]).astype(np.int32))
        counts.append((len(values), int((least[values] < 256).sum())))
    return stack(entries), np.array(counts, np.int32)


def _line_entries(lines: UInt8Array, pitch: int) -> tuple[IntArray, IntArray]:
    half = lines.shape[1] // 2
    entries = [
        np.column_stack([_offsets(np.argwhere(line) - half, pitch), line[line > 0]]).astype(np.int32)
        for line in lines
    ]
    return stack(entries), np.array([len(entry) for entry in entries], np.int32)


def _frame(size: int, width: int) -> UInt8Array:
    """A canvas with 255 in the image's outermost `width` pixels, flat; with width 0, 255 in the border."""
    image = np.zeros((size, size), np.uint8)
    if width:
        image[:width] = image[-width:] = 255
        image[:, :width] = image[:, -width:] = 255
    return np.pad(image, BORDER, constant_values=0 if width else 255).ravel()


def _offsets(places: npt.NDArray[Any], pitch: int) -> IntArray:
    return np.asarray(places[:, 0] * pitch + places[:, 1], np.int32)
