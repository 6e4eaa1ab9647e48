"""Pathfinder's filter and its border rule, computed slowly from their definitions."""

import math

import numpy as np


def lanczos_by_definition(images, side):
    """(n, s, s) -> (n, side, side) in floating point, clipped to 0..255; no rounding in between."""
    source = images.shape[1]
    scale = source / side
    weights = np.zeros((side, source))
    for target in range(side):
        for pixel in range(source):
            t = (pixel + 0.5 - (target + 0.5) * scale) / scale
            if abs(t) < 1e-12:
                weights[target, pixel] = 1.0
            elif abs(t) < 3:
                weights[target, pixel] = (
                    3 * math.sin(math.pi * t) * math.sin(math.pi * t / 3) / (math.pi * t) ** 2
                )
    weights /= weights.sum(axis=1, keepdims=True)
    columns = np.clip(images.astype(float) @ weights.T, 0, 255)
    return np.clip(weights @ columns, 0, 255)


def closed_by_search(kernel, size):
    """Whether some pixel of the image has its whole kernel outside the image: every pixel is tried."""
    for y in range(size):
        for x in range(size):
            places = kernel + np.array([y, x])
            if not ((places >= 0) & (places < size)).all(axis=1).any():
                return True
    return False
