"""Pathfinder images from a seed and an index, or from given random streams."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lra_bench.tasks.pathfinder_parameters import ProcessParameters
from lra_bench.tasks.pathfinder_tables import Tables, build_tables


@dataclass(frozen=True)
class Drawings:
    """Images with what is known of how each came about; n of them."""

    images: npt.NDArray[np.uint8]
    """(n, size, size)"""
    labels: npt.NDArray[np.int64]
    """(n,): 1 where both markers are on one contour."""
    details: npt.NDArray[np.int32]
    """(n, 12), by column as below."""

    @property
    def attempts(self) -> npt.NDArray[np.int32]:
        """(n,): pairs of targets begun until one was complete."""
        return self.details[:, 0]

    @property
    def distractors(self) -> npt.NDArray[np.int32]:
        """(n,): distractor contours that found room."""
        return self.details[:, 1]

    @property
    def margin_index(self) -> npt.NDArray[np.int32]:
        """(n,): which of the variant's margins."""
        return self.details[:, 2]

    @property
    def starting_tips(self) -> npt.NDArray[np.int32]:
        """(n, 2, 2): contour, (y, x)."""
        return self.details[:, 4:8].reshape(-1, 2, 2)

    @property
    def ending_tips(self) -> npt.NDArray[np.int32]:
        """(n, 2, 2): contour, (y, x)."""
        return self.details[:, 8:12].reshape(-1, 2, 2)

    @property
    def markers(self) -> npt.NDArray[np.int32]:
        """(n, 2, 2): centres (y, x) of the marker at a starting tip and of the one at an ending tip."""
        carrier = self.details[:, 3]
        other = np.where(self.labels == 1, carrier, 1 - carrier)
        rows = np.arange(len(carrier))
        return np.stack([self.starting_tips[rows, carrier], self.ending_tips[rows, other]], axis=1)


class PathfinderGenerator:
    """Draws the images of one variant. Pure: the same seed and index give the same bytes on any thread.

    border_rule: see `pathfinder_tables.build_tables`; off only for the tests' negative control.
    """

    def __init__(self, parameters: ProcessParameters, *, border_rule: bool = True) -> None:
        self.parameters = parameters
        self._border_rule = border_rule

    @functools.cached_property
    def tables(self) -> Tables:
        return build_tables(self.parameters, border_rule=self._border_rule)

    def draw(self, seed: int, start: int, stop: int) -> Drawings:
        """Images start..stop of the sequence that belongs to `seed`."""
        from lra_bench.tasks.random_stream import stream_state

        # Zero-dimensional arrays would be other types to the compiler; plain integers always are int64.
        states = np.array([stream_state(seed, index) for index in range(start, stop)], np.uint64)
        return self.replay(states, original_order=False)

    def replay(self, states: npt.NDArray[np.uint64], *, original_order: bool = True) -> Drawings:
        """One image from each state (n,) of a random stream.

        original_order: with every draw of the 2019 generator, in its order; the same stream then gives
        the same image as there. Without, the same distribution from fewer draws.
        """
        # Late, because numba takes most of a second to import and the first call compiles.
        from lra_bench.tasks.pathfinder_kernel import NUM_DETAILS, draw_images

        p, t = self.parameters, self.tables
        images = np.zeros((len(states), p.size, p.size), np.uint8)
        labels = np.zeros(len(states), np.int64)
        details = np.zeros((len(states), NUM_DETAILS), np.int32)
        draw_images(
            np.ascontiguousarray(states, np.uint64),
            original_order,
            p.size,
            t.pitch,
            p.contour_length,
            p.distractor_length,
            p.distractors,
            t.stamp_of,
            t.mask_entries,
            t.mask_counts,
            t.line_entries,
            t.line_counts,
            t.pivot_step,
            t.candidates,
            t.candidate_weights,
            t.candidate_counts,
            t.gap_offsets,
            t.gap_counts,
            t.seed_head,
            t.seed_pivot,
            t.seed_kernel,
            t.seed_kernel_counts,
            t.seed_box,
            t.seed_closed,
            t.partner_step,
            t.frame,
            t.inside,
            t.free_weight,
            t.brightness,
            t.markers,
            images,
            labels,
            details,
        )
        return Drawings(images, labels, details)
