"""What tells Pathfinder images apart by eye, as numbers; and tests of two samples of images."""

import numpy as np
from scipy import ndimage, stats
from scipy.spatial.distance import cdist
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

FEATURES = ("ink", "dark_ink", "intensity", "components", "bright", "distractors", "attempts")
EIGHT_NEIGHBOURS = np.ones((3, 3))


def image_features(images, distractors, attempts):
    """(n, size, size), (n,), (n,) -> (n, 7), columns as FEATURES."""
    columns = [
        (images > 0).mean(axis=(1, 2)),
        (images > 26).mean(axis=(1, 2)),
        images.mean(axis=(1, 2)),
        [ndimage.label(image > 26, EIGHT_NEIGHBOURS)[1] for image in images],
        (images >= 230).sum(axis=(1, 2)),
        distractors,
        attempts,
    ]
    return np.column_stack(columns).astype(float)


def features_of(drawings):
    return image_features(drawings.images, drawings.distractors, drawings.attempts)


def kolmogorov_smirnov(first, second):
    """p-value per feature."""
    return {
        name: stats.ks_2samp(first[:, column], second[:, column], method="asymp").pvalue
        for column, name in enumerate(FEATURES)
    }


def permutation_p(first, second, permutations=4_000, seed=0):
    """p-value of the energy distance between two samples of features, under exchanged labels."""
    pooled = np.vstack([first, second])
    pooled[:, FEATURES.index("attempts")] = np.log(pooled[:, FEATURES.index("attempts")])
    spread = pooled.std(axis=0)
    pooled = pooled[:, spread > 0] / spread[spread > 0]
    distances = cdist(pooled, pooled)
    rng = np.random.default_rng(seed)
    member = np.zeros(len(pooled))
    member[: len(first)] = 1
    members = np.vstack([member, *(rng.permutation(member) for _ in range(permutations))])
    n, m = len(first), len(second)
    inside = ((members @ distances) * members).sum(axis=1) / n**2
    outside = (((1 - members) @ distances) * (1 - members)).sum(axis=1) / m**2
    between = ((members @ distances) * (1 - members)).sum(axis=1) / (n * m)
    energy = 2 * between - inside - outside
    return (energy[1:] >= energy[0] - 1e-12).mean()


def classifier_auc(first, second, blocks=16):
    """Area under the curve of a random forest on block means that tells two samples of images apart."""
    images = np.concatenate([first, second]).astype(np.float32)
    side = images.shape[1] // blocks
    means = images.reshape(len(images), blocks, side, blocks, side).mean(axis=(2, 4))
    labels = np.repeat([0, 1], [len(first), len(second)])
    order = np.random.default_rng(0).permutation(len(labels))
    forest = RandomForestClassifier(100, min_samples_leaf=5, max_features="sqrt", random_state=0)
    flat = means.reshape(len(images), -1)
    return cross_val_score(forest, flat[order], labels[order], cv=5, scoring="roc_auc").mean()
