"""The fast mode draws from the original's distribution, and its images look like the original's.

Replay mode makes the original's draws and is held to its bytes elsewhere; here fast images are
compared with replayed ones and with a sample that the 2019 generator made. The negative control is
the process without the border rule, which the same tests must tell apart. Every sample has a fixed
seed, so that no test can fail by chance on one day and pass on the next.
"""

import functools

import numpy as np
import pytest
from references.pathfinder_features import (
    classifier_auc,
    features_of,
    image_features,
    kolmogorov_smirnov,
    permutation_p,
)

from lra_bench.tasks.pathfinder_generator import PathfinderGenerator
from lra_bench.tasks.pathfinder_parameters import process_parameters
from lra_bench.tasks.random_stream import stream_state

LEAST_P = 0.001
SAMPLES = {32: 2_000, 64: 250, 128: 250, 256: 150}
LARGE_SAMPLES = {64: 2_000, 128: 2_000, 256: 1_000}


@functools.cache
def fast(size, count, border_rule=True):
    generator = PathfinderGenerator(process_parameters(size, 14, None), border_rule=border_rule)
    return generator.draw(11, 0, count)


@functools.cache
def replayed(size, count):
    generator = PathfinderGenerator(process_parameters(size, 14, None))
    return generator.replay(np.array([stream_state(12, index) for index in range(count)], np.uint64))


def assert_same_distribution(size, count):
    p_values = kolmogorov_smirnov(features_of(fast(size, count)), features_of(replayed(size, count)))
    assert all(p > LEAST_P for p in p_values.values()), p_values


@pytest.mark.parametrize("size", SAMPLES)
def test_features_are_those_of_replayed_images(size):
    assert_same_distribution(size, SAMPLES[size])


def test_features_without_the_border_rule_differ():
    for size in (32, 64):
        count = SAMPLES[size]
        control = features_of(fast(size, count, border_rule=False))
        p_values = kolmogorov_smirnov(control, features_of(replayed(size, count)))
        assert p_values["ink"] < LEAST_P
        assert p_values["distractors"] < LEAST_P


def test_a_classifier_cannot_tell_fast_from_replayed_images():
    auc = classifier_auc(fast(32, SAMPLES[32]).images, replayed(32, SAMPLES[32]).images)
    assert 0.45 < auc < 0.55


def test_the_classifier_notices_the_missing_border_rule():
    control = fast(32, SAMPLES[32], border_rule=False).images[:500]
    assert classifier_auc(control, replayed(32, SAMPLES[32]).images[:500]) > 0.85


def test_distractors_start_everywhere_alike():
    """The fast mode finds free positions by rejection: ink is spread as in replayed images."""
    for size in (32, 256):
        first, second = fast(size, SAMPLES[size]), replayed(size, SAMPLES[size])
        edges = np.linspace(0, size, 9).astype(int)
        for axis in (1, 2):
            profiles = [
                np.add.reduceat(d.images.mean(axis=axis), edges[:-1], axis=1) for d in (first, second)
            ]
            means = [profile.mean(axis=0) for profile in profiles]
            errors = [profile.std(axis=0) / np.sqrt(len(profile)) for profile in profiles]
            assert (np.abs(means[0] - means[1]) < 4.5 * np.hypot(*errors) + 1e-9).all()


@pytest.mark.parametrize("size", SAMPLES)
def test_images_are_like_the_2019_generators(size, reference_data):
    golden = np.load(reference_data / "pathfinder_reference" / f"{size}.npz")
    reference = image_features(golden["images"], golden["distractors"], golden["two_try"])
    assert len(reference) == 250
    sample = features_of(fast(size, SAMPLES[size]))[:250]
    assert permutation_p(reference, sample) > LEAST_P
    p_values = kolmogorov_smirnov(reference, sample)
    assert all(p > LEAST_P for p in p_values.values()), p_values


@pytest.mark.parametrize("size", [32, 64])
def test_images_without_the_border_rule_are_not(size, reference_data):
    golden = np.load(reference_data / "pathfinder_reference" / f"{size}.npz")
    reference = image_features(golden["images"], golden["distractors"], golden["two_try"])
    control = features_of(fast(size, SAMPLES[size], border_rule=False))[:250]
    assert permutation_p(reference, control) < LEAST_P


@pytest.mark.slow
@pytest.mark.parametrize("size", LARGE_SAMPLES)
def test_large_samples_agree(size):
    count = LARGE_SAMPLES[size]
    assert_same_distribution(size, count)
    auc = classifier_auc(fast(size, count).images, replayed(size, count).images)
    assert 0.45 < auc < 0.55
