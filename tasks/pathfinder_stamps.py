"""What Pathfinder draws with: dashes, their masks, and the discs that mark contour ends.

All are drawn at `antialias` times the size and reduced by an 8-bit Lanczos filter, whose faint rings
are part of the images and are kept. The filter here is exact integer arithmetic, so that the stamps
are the same bytes everywhere; `STAMPS_SHA256` holds them, and building other stamps is an error.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lra_bench.errors import DataError
from lra_bench.tasks.pathfinder_lines import line_canvases
from lra_bench.tasks.pathfinder_parameters import ProcessParameters

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

_LANCZOS_LOBES = 3
_FRACTION_BITS = 22
"""Weights are rounded to this many bits after the point: 8-bit pixels and 12 taps then fit 32 bits."""

STAMPS_SHA256 = {
    32: "dae6e2f305b0f5ed16e17f1cae1385e9c5cad200640ae33827f8974fee0a309d",
    64: "59816a7cea4f9582f3fdd18f03af707db08d59b68b45e42700655330992360bf",
    128: "e5883d35c2dc15202797471dd3443c15d8ac5355d479ae8c48ff006a61bcdcaa",
    256: "f675bdebcbec9a8cdd23e30a5897e176ee7ea1a276ea949b83ce4694f027ee6f",
}
"""Per image size; checked once against Pillow 13.0's own drawing and reduction, byte by byte."""


@dataclass(frozen=True)
class Stamps:
    """The stamps of one variant, one table per margin where the margin matters."""

    lines: list[UInt8Array]
    """Per margin: (lines, side, side), a dash with its tip in the middle; lines in table order."""
    masks: list[UInt8Array]
    """Per margin: the same dashes widened by the margin, the room that they claim."""
    markers: UInt8Array
    """(2k + 1, 2k + 1, 2k + 1, 2k + 1): the disc by its centre's border class in y and x, then its
    pixels. Classes 0..k-1 count from the first row or column, k is the interior, the rest counts up
    to the last: the filter renormalises at a border, so that discs near it look different."""

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for table in (*self.lines, *self.masks, self.markers):
            digest.update(str(table.shape).encode())
            digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()


def build_stamps(parameters: ProcessParameters) -> Stamps:
    """Draws the stamps of a variant and checks them.

    Raises:
        DataError: they are not the bytes that define the data set.
    """
    antialias = parameters.antialias
    width = round(parameters.thickness * antialias)
    lines, masks = [], []
    for margin in parameters.margins:
        half = parameters.segment_length + math.ceil(parameters.thickness) + margin
        canvases = line_canvases(width, half * antialias)
        side = 2 * half + 1
        lines.append(reduce_lanczos(canvases, side))
        masks.append(reduce_lanczos(dilate(canvases, margin * antialias), side))
    stamps = Stamps(lines, masks, _markers(parameters.marker_radius, antialias))
    if stamps.sha256() != STAMPS_SHA256[parameters.size]:
        raise DataError(
            f"Pathfinder's stamps at size {parameters.size} have the SHA-256 {stamps.sha256()}, expected "
            f"{STAMPS_SHA256[parameters.size]}: this machine would draw other images than the data set's. "
            "Report it with the versions that `lra-bench env` shows."
        )
    return stamps


def disc(radius: int) -> npt.NDArray[np.bool_]:
    """(2 radius + 1, 2 radius + 1): True within `radius` of the centre."""
    offset = np.arange(-radius, radius + 1)
    return np.asarray(offset[:, None] ** 2 + offset[None, :] ** 2 <= radius * radius)


def dilate(images: UInt8Array, radius: int) -> UInt8Array:
    """Largest value within `radius` of each pixel: (n, side, side) -> the same. Outside counts as 0."""
    height, width = images.shape[1:]
    padded = np.pad(images, ((0, 0), (radius, radius), (radius, radius)))
    dilated = np.zeros_like(images)
    for y, x in np.argwhere(disc(radius)):
        np.maximum(dilated, padded[:, y : y + height, x : x + width], out=dilated)
    return dilated


def reduce_lanczos(images: UInt8Array, side: int) -> UInt8Array:
    """Lanczos reduction, 8 bits in and out, columns first: (n, s, s) -> (n, side, side)."""
    weights = lanczos_weights(images.shape[1], side)
    return _filter_rows(_filter_columns(images, weights), weights)


def lanczos_weights(source: int, side: int) -> FloatArray:
    """(side, source) weights of a reduction from `source` to `side` pixels, whole multiples of 2^-22
    times 2^22: rows add up to about 2^22, and sums of products with bytes are exact in float64."""
    scale = source / side
    support = _LANCZOS_LOBES * scale
    weights = np.zeros((side, source))
    for row in range(side):
        centre = (row + 0.5) * scale
        first = max(0, int(centre - support + 0.5))
        last = min(source, int(centre + support + 0.5))
        distance = (np.arange(first, last) - centre + 0.5) / scale
        taps = np.sinc(distance) * np.sinc(distance / _LANCZOS_LOBES)
        taps[np.abs(distance) >= _LANCZOS_LOBES] = 0.0
        # Renormalised where the border cuts the filter off; rounded halves away from zero.
        fixed = taps / taps.sum() * 2.0**_FRACTION_BITS
        weights[row, first:last] = np.trunc(fixed + np.copysign(0.5, fixed))
    return weights


def _filter_columns(images: UInt8Array, weights: FloatArray) -> UInt8Array:
    return _to_bytes(images.astype(np.float64) @ weights.T)


def _filter_rows(images: UInt8Array, weights: FloatArray) -> UInt8Array:
    return _to_bytes(weights @ images.astype(np.float64))


def _to_bytes(sums: FloatArray) -> UInt8Array:
    """Drops the fraction bits, rounding halves up, and clips: both passes are 8 bits."""
    return np.clip(np.floor((sums + 2.0 ** (_FRACTION_BITS - 1)) / 2.0**_FRACTION_BITS), 0, 255).astype(
        np.uint8
    )


def _markers(radius: float, antialias: int) -> UInt8Array:
    """Marker discs by border class, see `Stamps.markers`."""
    reach = math.ceil(radius) + 5
    # Any image in which the middle is out of the border's reach gives the same discs.
    side = 4 * reach + 1
    interior = 2 * reach
    centres = [*range(reach), interior, *range(side - reach, side)]
    weights = lanczos_weights(side * antialias, side)
    rows = np.arange(side * antialias)
    stamps = np.zeros((len(centres), len(centres), 2 * reach + 1, 2 * reach + 1), np.uint8)
    for i, centre_y in enumerate(centres):
        for j, centre_x in enumerate(centres):
            y, x = rows - centre_y * antialias, rows - centre_x * antialias
            inside = y[:, None] ** 2 + x[None, :] ** 2 <= (radius * antialias) ** 2
            image = np.where(inside, np.uint8(255), np.uint8(0))[None]
            reduced = _filter_rows(_filter_columns(image, weights), weights)[0]
            padded = np.pad(reduced, reach)
            stamps[i, j] = padded[centre_y : centre_y + 2 * reach + 1, centre_x : centre_x + 2 * reach + 1]
    return stamps
