"""The test of the reference implementation: every picture as it is, mirrored, and at several other scales.

The guide has one scale, because a chip's model has one size of input. The reference resizes each picture as a whole, so
that nothing is padded and every picture, at every scale, is an input of its own size; the largest has 1.7 megapixels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from tasks.protocols import Array, Detections
from tasks.recipes.pyramidbox import postprocess, preprocess, priors

SHRUNK: Final = "shrunk"
ENLARGED: Final = "enlarged"
PASSES: Final = (preprocess.ORIGINAL, preprocess.FLIPPED, SHRUNK, ENLARGED)
LARGEST_AREA: Final = 1_700_000  #: pixels of an input
SMALLEST_SIDE: Final = 32  #: pixels; five pools leave nothing of less

Run = Callable[[Array], Sequence[Array]]
"""Executes the network on float32 (1, 3, H, W); returns locations (1, P, 4) and scores (1, P, 2)."""


def predict(pixels: Array, run: Run) -> dict[str, Detections]:
    """Return the votes of each pass on a picture, in its pixels.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        run: see `Run`.
    """
    height, width = pixels.shape[:2]
    found: dict[str, Detections] = {}
    for name, factors in scales(height, width).items():
        is_mirrored = name == preprocess.FLIPPED
        shown = pixels[:, ::-1] if is_mirrored else pixels
        rows = np.concatenate([_look(shown, factor, run) for factor in factors])
        boxes = postprocess.mirrored(rows[:, 1:], width) if is_mirrored else rows[:, 1:]
        kept = _KEPT[name](boxes, factors[0])
        found[name] = postprocess.as_votes(boxes[kept], rows[kept, 0])
    return found


def scales(height: int, width: int) -> dict[str, list[float]]:
    """Return the factors by which each pass resizes a picture.

    A large picture is shrunk to `LARGEST_AREA` in all passes, and further in `SHRUNK`; a small one is enlarged to twice
    its size, four times and so on, and in the end to `LARGEST_AREA`.
    """
    largest = math.sqrt(LARGEST_AREA / (height * width))
    plain = min(largest, 1.0)
    shrunk = 0.5 if largest >= 0.75 else 0.5 * largest  # noqa: PLR2004 - the reference's
    enlarged = [min(2.0, largest) if largest > 1 else (shrunk + largest) / 2]
    if largest > 2:  # noqa: PLR2004 - the first step above
        factor = 4.0
        while factor < largest:
            enlarged.append(factor)
            factor *= 2
        enlarged.append(largest)
    return dict(zip(PASSES, ([plain], [plain], [shrunk], enlarged), strict=True))


def _all(boxes: Array, _factor: float) -> Array:
    return np.ones(len(boxes), dtype=np.bool_)


def _of_shrunk(boxes: Array, _factor: float) -> Array:
    return postprocess.is_large(boxes)


def _of_enlarged(boxes: Array, factor: float) -> Array:
    """Return the faces to look for on enlarged pictures; of one too large for that, what else it shows."""
    return postprocess.is_small(boxes) if factor > 1 else postprocess.is_large(boxes)


#: Pass -> which of the boxes (N, 4) found there count, by the pass's first factor.
_KEPT: Final[Mapping[str, Callable[[Array, float], Array]]] = {
    preprocess.ORIGINAL: _all,
    preprocess.FLIPPED: _all,
    SHRUNK: _of_shrunk,
    ENLARGED: _of_enlarged,
}


def _look(pixels: Array, factor: float, run: Run) -> Array:
    """Return what the network finds on a resized picture: float32 (K, 5), score and box in pixels of the picture."""
    import cv2

    pixels = np.ascontiguousarray(pixels)
    resized = pixels if factor == 1 else cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    height, width = resized.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        return np.empty((0, 5), dtype=np.float32)
    locations, scores = run(preprocess.normalise(resized)[None])
    rows = postprocess.decode_rows(locations[0], scores[0], priors.priors(height, width))
    rows = rows[np.isfinite(rows).all(axis=1)]
    size = np.array([1, width / factor, height / factor, width / factor, height / factor], dtype=np.float32)
    return rows * size
