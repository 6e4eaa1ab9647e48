"""The Pathfinder process, compiled: from a random stream's state to an image and its label.

A rejection sampler. Two target contours grow segment by segment, in turn; when a segment of either
finds no room, both are thrown away. Distractors follow, then one marker at a starting tip and one at
an ending tip: of the same contour (label 1) or of the two (label 0). Both classes hold both contours,
so that the amount of ink says nothing.

The kernel has two modes. With `replay` it makes every draw of the 2019 generator in its order, those
whose result is unused too, and lists all free positions before it picks one: from the same stream it
gives the same bytes. Without, it skips the unused draws and finds a free position by rejection, which
has the same distribution and is several times faster. All else is one code path.

Names and shapes of the tables: `pathfinder_tables.Tables`. Canvases are flat with a border.

All of it stands in one file because numba's cache watches only the file that a function is in. After
a change to the constants imported here, or to random_stream, delete the cache in __pycache__.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from lra_bench.tasks.pathfinder_geometry import NUM_SEED_ORIENTATIONS
from lra_bench.tasks.pathfinder_parameters import (
    BLOCKED_ABOVE,
    DISTRACTOR_RETRIALS,
    LEAST_FREE_FRACTION,
    LEAST_WEIGHT,
    TARGET_RETRIALS,
)
from lra_bench.tasks.pathfinder_tables import BORDER
from lra_bench.tasks.random_stream import randint, uniform

# Fields of a growing contour. The pivot is the point about which the next segment turns.
ORIENTATION, PIVOT_Y, PIVOT_X, TIP_Y, TIP_X = range(5)
NUM_DETAILS = 12
"""Columns of `details`: attempts, distractors placed, margin's index, the contour that carries the first
marker, then (y, x) of the starting tips of both contours and of their ending tips."""
REJECTION_DRAWS = 48
"""Positions tried by rejection before all free ones are listed: in a full image listing is cheaper."""


@njit(cache=True, nogil=True, error_model="numpy")
def _copy(target, source):  # type: ignore[no-untyped-def]
    """target[:] = source, which numba compiles to code twenty times slower than this loop."""
    for i in range(len(target)):
        target[i] = source[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _has_room(mask, size):  # type: ignore[no-untyped-def]
    """Whether enough of the image is free for a distractor to start at all."""
    taken = 0
    for i in range(len(mask)):
        taken += mask[i] > BLOCKED_ABOVE
    return (size * size - taken) / (size * size) >= LEAST_FREE_FRACTION


@njit(cache=True, nogil=True, error_model="numpy")
def _place(y, x, pitch):  # type: ignore[no-untyped-def]
    """Where (y, x) is on a flat canvas."""
    return (y + BORDER) * pitch + x + BORDER


@njit(cache=True, nogil=True, error_model="numpy")
def _claim(mask, inside, entries, count, base):  # type: ignore[no-untyped-def]
    """Adds a mask stamp to the canvas by maximum. `inside` keeps the border at 0."""
    for k in range(count):
        place = base + entries[k, 0]
        value = entries[k, 1] & inside[place]
        mask[place] = max(mask[place], value)


@njit(cache=True, nogil=True, error_model="numpy")
def _extend(  # type: ignore[no-untyped-def]
    state, contour, mask, inside, size, pitch, stamp_of, mask_entries, mask_counts, pivot_step,
    candidates, candidate_weights, candidate_counts, gap_offsets, gap_count, free_weight, cumulative,
):  # fmt: skip
    """Adds one segment to a contour, if there is room. Only now does the one before claim its room,
    so that a segment never stands in its successor's way. Says whether it did."""
    orientation = contour[ORIENTATION]
    pivot_y = math.ceil(contour[PIVOT_Y] + pivot_step[orientation, 0])
    pivot_x = math.ceil(contour[PIVOT_X] + pivot_step[orientation, 1])
    count = candidate_counts[orientation]
    total = 0.0
    for j in range(count):
        y = pivot_y + candidates[orientation, j, 0]
        x = pivot_x + candidates[orientation, j, 1]
        if 0 <= y < size and 0 <= x < size:
            base = _place(y, x, pitch)
            nearest = mask[base]
            for k in range(gap_count):
                if nearest == 255:
                    break
                nearest = max(nearest, mask[base + gap_offsets[k]])
            total += free_weight[nearest] * candidate_weights[orientation, j]
        cumulative[j] = total
    if total < LEAST_WEIGHT:
        return False
    for _ in range(TARGET_RETRIALS + 1):
        draw = uniform(state) * total
        j = 0
        while j < count - 1 and cumulative[j] <= draw:
            j += 1
        y = pivot_y + candidates[orientation, j, 0]
        x = pivot_x + candidates[orientation, j, 1]
        base = _place(y, x, pitch)
        chosen = candidates[orientation, j, 2]
        stamp = stamp_of[chosen]
        clash = False
        for k in range(mask_counts[stamp, 1]):
            if mask[base + mask_entries[stamp, k, 0]] >= mask_entries[stamp, k, 2]:
                clash = True
                break
        if not clash:
            stamp = stamp_of[orientation]
            base = _place(contour[TIP_Y], contour[TIP_X], pitch)
            _claim(mask, inside, mask_entries[stamp], mask_counts[stamp, 0], base)
            contour[ORIENTATION] = chosen
            contour[PIVOT_Y], contour[PIVOT_X] = pivot_y, pivot_x
            contour[TIP_Y], contour[TIP_X] = y, x
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _grow(  # type: ignore[no-untyped-def]
    state, contours, num_contours, length, replay, segments, mask, inside, size, pitch, stamp_of,
    mask_entries, mask_counts, pivot_step, candidates, candidate_weights, candidate_counts, gap_offsets,
    gap_count, free_weight, cumulative,
):  # fmt: skip
    """Grows started contours to `length` segments, in turn, and notes them in `segments` (contour, i, 2).
    Says whether all found room; the last segment of each has not claimed its own yet."""
    for turn in range(num_contours * length):
        contour = contours[turn % num_contours]
        if turn >= num_contours:
            if replay and turn % num_contours == 0:
                uniform(state)  # the original picks a contrast here, from a list of one
            if not _extend(
                state, contour, mask, inside, size, pitch, stamp_of, mask_entries, mask_counts, pivot_step,
                candidates, candidate_weights, candidate_counts, gap_offsets, gap_count, free_weight,
                cumulative,
            ):  # fmt: skip
                return False
        segment = segments[turn % num_contours, turn // num_contours]
        segment[0] = stamp_of[contour[ORIENTATION]]
        segment[1] = _place(contour[TIP_Y], contour[TIP_X], pitch)
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _start(contour, orientation, y, x, size, seed_head, seed_pivot):  # type: ignore[no-untyped-def]
    """Starts a contour with its tip at (y, x). Says whether head and pivot are in the image."""
    head_y = math.ceil(y + seed_head[orientation, 0])
    head_x = math.ceil(x + seed_head[orientation, 1])
    pivot_y = math.ceil(head_y + seed_pivot[orientation, 0])
    pivot_x = math.ceil(head_x + seed_pivot[orientation, 1])
    contour[ORIENTATION] = orientation
    contour[PIVOT_Y], contour[PIVOT_X] = pivot_y, pivot_x
    contour[TIP_Y], contour[TIP_X] = y, x
    in_image = 0 <= head_y < size and 0 <= head_x < size
    return in_image and 0 <= pivot_y < size and 0 <= pivot_x < size


@njit(cache=True, nogil=True, error_model="numpy")
def _start_targets(state, contours, size, seed_box, seed_head, seed_pivot, partner_step):  # type: ignore[no-untyped-def]
    """Starts both targets: the first in its box, the second at the seed distance in any direction,
    whatever stands there. Says whether both fit."""
    started = False
    for _ in range(TARGET_RETRIALS + 1):
        orientation = randint(state, NUM_SEED_ORIENTATIONS)
        width = seed_box[orientation, 3]
        positions = seed_box[orientation, 2] * width
        if positions == 0:
            return False
        place = randint(state, positions)
        y = seed_box[orientation, 0] + place // width
        x = seed_box[orientation, 1] + place % width
        if _start(contours[0], orientation, y, x, size, seed_head, seed_pivot):
            started = True
            break
    if not started:
        return False
    for _ in range(TARGET_RETRIALS + 1):
        orientation = randint(state, NUM_SEED_ORIENTATIONS)
        angle = randint(state, NUM_SEED_ORIENTATIONS)
        y = int(np.round(contours[0, TIP_Y] + partner_step[angle, 0]))
        x = int(np.round(contours[0, TIP_X] + partner_step[angle, 1]))
        if _start(contours[1], orientation, y, x, size, seed_head, seed_pivot):
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _is_free(mask, kernel, count, base):  # type: ignore[no-untyped-def]
    """Whether a contour can start at `base`: the padding keeps the image's edge taken in `mask`."""
    for k in range(count):  # noqa: SIM110 - numba has no all()
        if mask[base + kernel[k]] > BLOCKED_ABOVE:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _free_position(state, mask, kernel, count, size, pitch, replay, found):  # type: ignore[no-untyped-def]
    """A uniform draw from the positions where a contour can start, y * size + x, or -1."""
    if not replay:
        for _ in range(REJECTION_DRAWS):
            y = randint(state, size)
            x = randint(state, size)
            if _is_free(mask, kernel, count, _place(y, x, pitch)):
                return y * size + x
    positions = 0
    for y in range(size):
        for x in range(size):
            if _is_free(mask, kernel, count, _place(y, x, pitch)):
                found[positions] = y * size + x
                positions += 1
    if positions == 0:
        return -1
    return found[randint(state, positions)]


@njit(cache=True, nogil=True, error_model="numpy")
def _start_distractor(  # type: ignore[no-untyped-def]
    state, contour, mask, has_room, closed, kernels, kernel_counts, size, pitch, seed_head, seed_pivot,
    replay, found,
):  # fmt: skip
    """Starts a distractor at a free position, if its orientation is open and there is one. Says whether."""
    for _ in range(TARGET_RETRIALS + 1):
        orientation = randint(state, NUM_SEED_ORIENTATIONS)
        if not has_room or closed[orientation]:
            return False
        position = _free_position(
            state, mask, kernels[orientation], kernel_counts[orientation], size, pitch, replay, found
        )
        if position < 0:
            return False
        if _start(contour, orientation, position // size, position % size, size, seed_head, seed_pivot):
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(canvas, segments, length, line_entries, line_counts, brightness):  # type: ignore[no-untyped-def]
    """Draws a contour's dashes by maximum."""
    for i in range(length):
        stamp = segments[i, 0]
        for k in range(line_counts[stamp]):
            place = segments[i, 1] + line_entries[stamp, k, 0]
            canvas[place] = max(canvas[place], brightness[line_entries[stamp, k, 1]])


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_marker(canvas, y, x, size, pitch, markers, brightness):  # type: ignore[no-untyped-def]
    """Draws a disc at a tip, with the stamp of its border class."""
    reach = markers.shape[2] // 2
    class_y = y if y < reach else max(reach, y - size + 2 * reach + 1)
    class_x = x if x < reach else max(reach, x - size + 2 * reach + 1)
    for i in range(2 * reach + 1):
        row = _place(y + i - reach, x - reach, pitch)
        for j in range(2 * reach + 1):
            canvas[row + j] = max(canvas[row + j], brightness[markers[class_y, class_x, i, j]])


@njit(cache=True, nogil=True, error_model="numpy")
def _to_bytes(canvas, size, pitch, image):  # type: ignore[no-untyped-def]
    """Stretches lowest..highest to 0..255 and rounds, as the original does on saving."""
    low, high = np.inf, -np.inf
    for y in range(size):
        row = _place(y, 0, pitch)
        for x in range(size):
            low = min(low, canvas[row + x])
            high = max(high, canvas[row + x])
    scale = 255.0 / (high - low)
    for y in range(size):
        row = _place(y, 0, pitch)
        for x in range(size):
            image[y, x] = np.uint8(min((canvas[row + x] - low) * scale, 255.0) + 0.5)


@njit(cache=True, nogil=True, error_model="numpy")
def draw_images(  # type: ignore[no-untyped-def]
    states, replay, size, pitch, contour_length, distractor_length, distractors,
    stamp_of, mask_entries, mask_counts, line_entries, line_counts, pivot_step, candidates,
    candidate_weights, candidate_counts, gap_offsets, gap_counts, seed_head, seed_pivot, seed_kernel,
    seed_kernel_counts, seed_box, seed_closed, partner_step, frame, inside, free_weight, brightness,
    markers, images, labels, details,
):  # fmt: skip
    """Fills images (n, size, size), labels (n,) and details (n, NUM_DETAILS) from states (n,)."""
    state = np.zeros(1, np.uint64)
    contours = np.zeros((2, 5), np.int64)
    segments = np.zeros((2, contour_length, 2), np.int64)  # stamp and canvas position
    mask, saved = frame.copy(), frame.copy()
    canvas = np.zeros(pitch * pitch)
    cumulative = np.zeros(candidates.shape[2])
    found = np.zeros(size * size, np.int32)
    for index in range(len(states)):
        state[0] = states[index]
        label = randint(state, 2)
        m = randint(state, len(gap_counts))
        attempts = 0
        complete = False
        while not complete:
            attempts += 1
            if not _start_targets(state, contours, size, seed_box[m], seed_head, seed_pivot[m], partner_step):
                continue
            for snake in range(2):
                details[index, 4 + 2 * snake] = contours[snake, TIP_Y]
                details[index, 5 + 2 * snake] = contours[snake, TIP_X]
            _copy(mask, frame)
            complete = _grow(
                state, contours, 2, contour_length, replay, segments, mask, inside, size, pitch,
                stamp_of[m], mask_entries[m], mask_counts[m], pivot_step[m], candidates[m],
                candidate_weights[m], candidate_counts[m], gap_offsets[m], gap_counts[m], free_weight,
                cumulative,
            )  # fmt: skip
        # The second target's last segment claims its room; the first's never does, as in the original.
        stamp, place = segments[1, contour_length - 1]
        _claim(mask, inside, mask_entries[m, stamp], mask_counts[m, stamp, 0], place)
        canvas[:] = 0.0
        for snake in range(2):
            details[index, 8 + 2 * snake] = contours[snake, TIP_Y]
            details[index, 9 + 2 * snake] = contours[snake, TIP_X]
            _draw(canvas, segments[snake], contour_length, line_entries[m], line_counts[m], brightness[0])

        placed = 0
        _copy(saved, mask)
        has_room = _has_room(mask, size)
        for _ in range(distractors):
            for _ in range(DISTRACTOR_RETRIALS + 1):
                if replay:
                    uniform(state)
                if not _start_distractor(
                    state, contours[0], mask, has_room, seed_closed[m], seed_kernel[m],
                    seed_kernel_counts[m], size, pitch, seed_head, seed_pivot[m], replay, found,
                ):  # fmt: skip
                    continue
                if not _grow(
                    state, contours, 1, distractor_length, replay, segments, mask, inside, size, pitch,
                    stamp_of[m], mask_entries[m], mask_counts[m], pivot_step[m], candidates[m],
                    candidate_weights[m], candidate_counts[m], gap_offsets[m], gap_counts[m], free_weight,
                    cumulative,
                ):  # fmt: skip
                    _copy(mask, saved)
                    continue
                stamp, place = segments[0, distractor_length - 1]
                _claim(mask, inside, mask_entries[m, stamp], mask_counts[m, stamp, 0], place)
                _copy(saved, mask)
                has_room = _has_room(mask, size)
                placed += 1
                _draw(canvas, segments[0], distractor_length, line_entries[m], line_counts[m], brightness[1])
                break

        carrier = randint(state, 2)
        other = carrier if label == 1 else 1 - carrier
        for tip in (4 + 2 * carrier, 8 + 2 * other):
            y, x = details[index, tip], details[index, tip + 1]
            _draw_marker(canvas, y, x, size, pitch, markers, brightness[2])
        _to_bytes(canvas, size, pitch, images[index])
        labels[index] = label
        details[index, 0], details[index, 1] = attempts, placed
        details[index, 2], details[index, 3] = m, carrier
