"""The numbers of a detected face as the published chain writes them into its text files, a line a face.

Its evaluation reads these files, so what they round is part of the published figures. Predictions stay exact; only what
is scored, or written for the published tools, comes through here.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tasks.protocols import Array, Detections

_BOX_DECIMALS: Final = 1
_SCORE_DECIMALS: Final = 3
_NEAR_A_TIE: Final = 1e-6  # far above what a multiplication by 1000 can be wrong


@dataclass(frozen=True, kw_only=True, eq=False)
class WrittenFaces:
    """The faces of one image, in the order of the file.

    Attributes:
        boxes: float64 (N, 4), x y width height in pixels, one decimal. Width and height count the last pixel too.
        scores: float64 (N,), three decimals.
    """

    boxes: Array
    scores: Array


def as_written(found: Detections) -> WrittenFaces:
    """Return detections as they stand in the published text files: `x y w h score`, with w = x2 - x1 + 1."""
    corners = np.asarray(found.boxes, dtype=np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):  # infinity less infinity: no number, which overlaps nothing
        sizes = corners[:, 2:] - corners[:, :2] + 1
    return WrittenFaces(
        boxes=_rounded(np.concatenate([corners[:, :2], sizes], axis=1), _BOX_DECIMALS),
        scores=_rounded(np.asarray(found.scores, dtype=np.float64).reshape(-1), _SCORE_DECIMALS),
    )


def _rounded(values: Array, decimals: int) -> Array:
    """Return what reading back `f"{value:.{decimals}f}"` gives, value by value.

    A product with a power of ten may round onto a tie which the value itself is not, 0.35 for one; these few are
    written and read.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = values * 10**decimals
        rounded: Array = np.rint(scaled) / 10**decimals
        close = np.abs(scaled - np.floor(scaled) - 0.5) < _NEAR_A_TIE
    rounded[close] = [float(f"{value:.{decimals}f}") for value in values[close].tolist()]
    return rounded
