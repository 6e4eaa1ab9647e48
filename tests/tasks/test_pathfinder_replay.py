"""Fed the random stream of the 2019 generator, the shipped kernel gives its images, byte for byte."""

from pathlib import Path

import numpy as np
import pytest

from lra_bench.tasks.pathfinder_generator import PathfinderGenerator
from lra_bench.tasks.pathfinder_parameters import process_parameters

FIXTURES = Path(__file__).parents[1] / "fixtures"
SIZES = (32, 64, 128, 256)


def mismatches(size, path):
    """How many images, and how many labels, differ from the golden ones."""
    golden = np.load(path)
    drawings = PathfinderGenerator(process_parameters(size, 14, None)).replay(golden["stream_state"])
    images = (drawings.images != golden["images"]).any(axis=(1, 2))
    return int(images.sum()), int((drawings.labels != golden["labels"]).sum())


@pytest.mark.parametrize(("size", "count"), [(32, 24), (64, 6), (128, 8), (256, 4)])
def test_images_of_the_2019_generator(size, count):
    path = FIXTURES / f"pathfinder_{size}.npz"
    assert len(np.load(path)["images"]) == count
    assert mismatches(size, path) == (0, 0)


@pytest.mark.parametrize(("size", "count"), [(32, 200), (64, 24), (128, 40), (256, 60)])
def test_all_golden_images(size, count, reference_data):
    path = reference_data / "pathfinder_reference" / f"replay_{size}.npz"
    assert len(np.load(path)["images"]) == count
    assert mismatches(size, path) == (0, 0)


@pytest.mark.parametrize("size", SIZES)
def test_replay_notices_other_draws(size):
    """Without the original's unused draws the same stream gives other images."""
    golden = np.load(FIXTURES / f"pathfinder_{size}.npz")
    generator = PathfinderGenerator(process_parameters(size, 14, None))
    drawings = generator.replay(golden["stream_state"], original_order=False)
    assert (drawings.images != golden["images"]).any(axis=(1, 2)).all()


def test_both_margins_are_among_the_golden_images():
    golden = np.load(FIXTURES / "pathfinder_128.npz")
    drawings = PathfinderGenerator(process_parameters(128, 14, None)).replay(golden["stream_state"])
    assert set(drawings.margin_index) == {0, 1}
