"""Pathfinder's stamps and geometry against independent computations."""

import math

import numpy as np
import pytest
from references.pathfinder_rules import closed_by_search, lanczos_by_definition

from lra_bench.errors import DataError
from lra_bench.tasks import pathfinder_stamps
from lra_bench.tasks.pathfinder_geometry import candidate_circle, displacements, lines_at, seed_angles
from lra_bench.tasks.pathfinder_lines import LINES, line_canvases, line_ends
from lra_bench.tasks.pathfinder_parameters import process_parameters
from lra_bench.tasks.pathfinder_seeding import seed_kernel
from lra_bench.tasks.pathfinder_stamps import STAMPS_SHA256, build_stamps, dilate, disc, reduce_lanczos
from lra_bench.tasks.pathfinder_tables import build_tables

SIZES = (32, 64, 128, 256)


@pytest.mark.parametrize("size", SIZES)
def test_stamps_are_the_committed_bytes(size):
    assert build_stamps(process_parameters(size, 14, None)).sha256() == STAMPS_SHA256[size]


def test_other_stamps_are_refused(monkeypatch):
    monkeypatch.setattr(pathfinder_stamps, "_FRACTION_BITS", 8)
    with pytest.raises(DataError, match="SHA-256"):
        build_stamps(process_parameters(64, 14, None))


@pytest.mark.parametrize(("source", "side"), [(17, 9), (29, 15), (41, 21), (64, 32)])
def test_reduction_is_lanczos(source, side):
    images = np.random.default_rng(source).integers(0, 256, (3, source, source)).astype(np.uint8)
    images[1] = 255
    reduced = reduce_lanczos(images, side).astype(float)
    # Two roundings to whole levels, the first of them spread by the second pass.
    assert np.abs(reduced - lanczos_by_definition(images, side)).max() <= 1.5
    assert (reduced[1] == 255).all()


def test_reduction_is_pillows():
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(0)
    for source, side in ((17, 9), (29, 15), (41, 21), (64, 32)):
        pixels = rng.integers(0, 256, (source, source)).astype(np.uint8)
        expected = np.asarray(image.fromarray(pixels).resize((side, side), image.Resampling.LANCZOS))
        assert np.array_equal(reduce_lanczos(pixels[None], side)[0], expected)


@pytest.mark.parametrize("width", sorted(LINES))
def test_lines_are_pillows(width):
    pillow = pytest.importorskip("PIL", reason="Pillow is not installed")
    if not pillow.__version__.startswith("13."):
        pytest.skip("the table holds what Pillow 13 draws")
    from PIL import Image, ImageDraw

    centre = 14
    for end, canvas in zip(line_ends(width), line_canvases(width, centre), strict=True):
        expected = Image.new("L", canvas.shape)
        ImageDraw.Draw(expected).line(
            [(centre, centre), (centre + end[1], centre + end[0])], fill=255, width=width
        )
        assert np.array_equal(canvas, np.asarray(expected)), end


@pytest.mark.parametrize("width", sorted(LINES))
def test_lines_lie_along_their_segment(width):
    """Every pixel is within half a width and a rounding of the segment, and reaches both ends."""
    centre = 14
    for (end_y, end_x), canvas in zip(line_ends(width), line_canvases(width, centre), strict=True):
        places = np.argwhere(canvas) - centre
        length = math.hypot(end_y, end_x)
        across = np.abs(places[:, 0] * end_x - places[:, 1] * end_y) / length
        along = (places[:, 0] * end_y + places[:, 1] * end_x) / length
        assert across.max() <= width / 2 + 1
        assert along.min() >= -2
        assert along.max() <= length + 2
        # A corner may lack one pixel, so an end is looked for among its neighbours.
        for y, x in ((centre, centre), (centre + end_y, centre + end_x)):
            assert canvas[y - 1 : y + 2, x - 1 : x + 2].any()


def test_dilation_reaches_the_radius():
    image = np.zeros((1, 15, 15), np.uint8)
    image[0, 7, 7] = 9
    y, x = np.mgrid[:15, :15] - 7
    assert np.array_equal(dilate(image, 3)[0] > 0, y**2 + x**2 <= 9)
    assert disc(1).sum() == 5


# Orientations that can start a contour, of 360, per margin: what the original's dilation gave when it
# was run, and at 32 and 64 which ones, in degrees.
OPEN = {32: [30], 64: [95], 128: [354, 360], 256: [360]}
OPEN_RANGE = {32: (-150, -121), 64: (-180, -85)}


@pytest.mark.parametrize("size", SIZES)
def test_border_rule_leaves_the_known_orientations(size):
    tables = build_tables(process_parameters(size, 14, None))
    assert [int((closed == 0).sum()) for closed in tables.seed_closed] == OPEN[size]
    if size in OPEN_RANGE:
        degrees = np.flatnonzero(tables.seed_closed[0] == 0) - 180
        low, high = OPEN_RANGE[size]
        assert low <= degrees.min()
        assert degrees.max() <= high
    without = build_tables(process_parameters(size, 14, None), border_rule=False)
    assert not without.seed_closed.any()


@pytest.mark.parametrize(("size", "margin_index"), [(32, 0), (128, 0)])
def test_border_rule_by_search_over_the_whole_image(size, margin_index):
    parameters = process_parameters(size, 14, None)
    tables = build_tables(parameters)
    margin = parameters.margins[margin_index]
    masks = build_stamps(parameters).masks[margin_index]
    lines = lines_at(parameters, margin, seed_angles())
    for orientation in range(0, 360, 24):
        kernel = seed_kernel(masks[lines[orientation]], parameters.segment_length + margin)
        expected = closed_by_search(kernel, size)
        assert tables.seed_closed[margin_index, orientation] == expected, orientation


@pytest.mark.parametrize("size", SIZES)
def test_first_seeds_keep_clear_of_a_frame_twice_the_seed_distance(size):
    parameters = process_parameters(size, 14, None)
    frame = 2 * parameters.seed_distance
    for boxes in build_tables(parameters).seed_box:
        y, x, height, width = boxes[boxes[:, 2] > 0].T
        assert len(y) > 0
        # The kernel covers its tip or a neighbour of it, so that the tip strays by one at most.
        assert min(y.min(), x.min()) >= frame - 1
        assert max((y + height).max(), (x + width).max()) <= size - frame + 1


@pytest.mark.parametrize("step", [3, 6, 7, 8])
def test_candidates_are_a_circle(step):
    positions, angles = candidate_circle(step)
    radius = np.hypot(*positions.T)
    assert np.abs(radius - step).max() < 1.5
    assert len({tuple(position) for position in positions.tolist()}) == len(positions)
    assert np.allclose(displacements(1, angles) * radius[:, None], positions)
    gaps = np.diff(np.sort(angles))
    assert gaps.max() < 2.5 / step
