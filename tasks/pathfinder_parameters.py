"""The constants of the Pathfinder process, per image size, and why each is what it is.

Source: the generator of Linsley et al., "Learning long-range spatial dependencies with horizontal
gated recurrent units" (NeurIPS 2018), and the settings per size that the 2020 release of Long Range
Arena gives in the docstrings of its Pathfinder data module. Lengths are in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lra_bench.errors import OptionError

Size = Literal[32, 64, 128, 256]
ContourLength = Literal[6, 9, 14]

DISTRACTOR_BUDGETS: dict[int, tuple[int, ...]] = {32: (20,), 64: (22,), 128: (35, 70), 256: (30,)}
"""Distractor segments per image, the default first. The release names one budget per size. At 128
(Path-X) its docstring says 35; a later remark on the first upload, known to us only at second hand,
says 35 * 2. Neither could be checked against released pixels, so 35 is the default, and a variant's
name always says which."""

TARGET_RETRIALS = 2
"""Further draws for a segment, or for a seed, that does not fit. The original's default at all sizes
(`max_paddle_retrial`)."""

DISTRACTOR_RETRIALS = 4
"""Further tries for a distractor before it is left out without notice. The original's default at all
sizes (`max_distractor_contour_retrial`)."""

CLASH_SUM = 1.8
"""Two masks overlap too much where their sum reaches this. The original's constant: just below 2, so
that the soft rims of two dashes may meet and their cores may not."""

BLOCKED_ABOVE = 76
"""A distractor can't start where the mask is above 0.3 of 255, the original's threshold for a seed."""

LEAST_FREE_FRACTION = 0.01
"""No distractor starts in an image with less free area than this, as in the original."""

LEAST_WEIGHT = 1e-4
"""A contour whose next segments have less total weight than this is stuck, as in the original."""


@dataclass(frozen=True)
class ProcessParameters:
    """Everything that shapes the images of one variant."""

    size: int
    """Side of the image. Drawn at this size directly: nothing is scaled down from a larger image."""
    contour_length: int
    """Segments of each of the two target contours. 14 is the release's hard set, the one it scores."""
    distractor_length: int
    """Segments of a distractor: a third of a target's, rounded down. The docstrings write `/`; under
    Python 3 that is a fraction and crashes, so the release must have meant whole numbers."""
    distractors: int
    """Distractor contours asked for: the budget over their length, rounded down. Fewer may fit."""
    distractor_budget: int
    padding: int
    """Frame in which no segment may stand. The release sets 1 up to 128 to use small images fully;
    at 256 it leaves the generator's 22, which is why those images keep to the middle."""
    margins: tuple[int, ...]
    """Gap around a segment; each image draws one. Only 128 has two, so that spacing is no constant."""
    segment_length: int
    """Length of a dash: the generator's 5, and 2 at 32 so that 14 of them can turn in so small an image."""
    thickness: float
    """Of a dash; grows with the size, as the release has it (0.5, 1, 1.5, 2)."""
    antialias: int
    """Dashes and markers are drawn this much larger and reduced. 2 everywhere: the docstring of 64
    sets 4 first and then 2, and the later value wins."""
    seed_distance: int
    """Between the starting tips of the two targets. The first starts at least twice this from the
    border: at 32, where it is 7, one starting tip is therefore always near the centre."""
    marker_radius: float
    """Of the two discs that mark contour ends; grows with the size so that they stay visible."""
    continuity: float
    """Larger is straighter: weights fall to zero at a turn of 90 degrees over this. The generator's
    1.8 allows 50 degrees a segment; the release takes 1.0 at 32, or contours would not fit."""
    target_contrast: float
    """Brightness of the target contours, markers being 1."""
    distractor_contrast: float
    """Brightness of distractors. At 32 the release sets 2 against 1.5 for targets: there distractors
    are brighter than what is to be traced. Elsewhere both are equal."""


def process_parameters(size: int, contour_length: int, distractors: int | None) -> ProcessParameters:
    """The constants for a size, a contour length and a distractor budget (None: the size's default).

    Raises:
        OptionError: a value that has no such set; the message lists those that are.
    """
    if size not in get_args(Size):
        raise OptionError(f"size={size!r}: Pathfinder has the sizes {_listed(get_args(Size))}.")
    if contour_length not in get_args(ContourLength):
        raise OptionError(
            f"contour_length={contour_length!r}: Pathfinder has the lengths "
            f"{_listed(get_args(ContourLength))}; 14 is the set that Long Range Arena scores."
        )
    budgets = DISTRACTOR_BUDGETS[size]
    budget = budgets[0] if distractors is None else distractors
    if budget not in budgets:
        raise OptionError(
            f"distractors={distractors!r}: the budgets at size {size} are {_listed(budgets)}. "
            "Leave it out for the default."
        )
    distractor_length = contour_length // 3
    return ProcessParameters(
        size=size,
        contour_length=contour_length,
        distractor_length=distractor_length,
        distractors=budget // distractor_length,
        distractor_budget=budget,
        padding=22 if size == 256 else 1,
        margins={32: (1,), 64: (1,), 128: (2, 3), 256: (3,)}[size],
        segment_length=2 if size == 32 else 5,
        thickness={32: 0.5, 64: 1.0, 128: 1.5, 256: 2.0}[size],
        antialias=2,
        seed_distance={32: 7, 64: 12, 128: 20, 256: 27}[size],
        marker_radius={32: 1.5, 64: 2.5, 128: 3.0, 256: 5.0}[size],
        continuity=1.0 if size == 32 else 1.8,
        target_contrast={32: 1.5, 64: 0.8, 128: 0.9, 256: 1.0}[size],
        distractor_contrast={32: 2.0, 64: 0.8, 128: 0.9, 256: 1.0}[size],
    )


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)
