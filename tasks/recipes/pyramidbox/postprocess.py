"""From the network's outputs to one pass's votes on a picture, by the rules of the reference's Detect and the script.

The guide's model ends in a suppression operator that hands out 1,000 rows in float16, so that its boxes are off by up
to a pixel on large pictures, before and after scaling. Here the rows stay float32: the sums below are the script's, its
rounding is not.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tasks import nms
from tasks.protocols import Array, Detections
from tasks.recipes.pyramidbox import preprocess, priors

SCORE_THRESHOLD: Final = 0.05  #: a candidate scores more than this, and a row of the model's at least this
CANDIDATES: Final = 5000  #: that suppression looks at, the best
IOU_THRESHOLD: Final = 0.3  #: a better box removes what overlaps it by more
ROWS: Final = 1000  #: that a pass hands out at most, as the guide's model does
FACE: Final = 1  #: the only label

_LARGE: Final = 30  #: pixels of the longer side above which a face counts as if seen on a smaller picture too
_SMALL: Final = 100  #: pixels of the shorter side below which it counts as if seen on a larger one
_ENLARGED_AREA: Final = 1_700_000  #: pixels of a picture below which the reference enlarges it


def on_square(locations: Array, scores: Array, side: int) -> Array:
    """Return the faces found on the network's input, best first: float32 (K, 5), score x1 y1 x2 y2, relative to it.

    Args:
        locations: float32 (P, 4), corrections of the priors.
        scores: float32 (P, 2), probabilities: background, face.
        side: of the square input, in pixels.
    """
    return decode_rows(locations, scores, priors.priors(side, side))[:ROWS]


def decode_rows(locations: Array, scores: Array, table: Array) -> Array:
    """Return the rows of the reference's Detect, at most `CANDIDATES`; `table` holds the priors (P, 4)."""
    faces = np.asarray(scores, dtype=np.float32)[:, 1]
    chosen = np.flatnonzero(faces > SCORE_THRESHOLD)
    if len(chosen) > CANDIDATES:
        chosen = chosen[np.argsort(-faces[chosen], kind="stable")[:CANDIDATES]]
    boxes = priors.decode(np.asarray(locations, dtype=np.float32)[chosen], table[chosen])
    found = faces[chosen]
    kept = nms.class_nms(boxes, found, np.zeros(len(found), dtype=np.int64), iou_threshold=IOU_THRESHOLD)
    return np.column_stack([found[kept], boxes[kept]])


def on_picture(rows: Array, meta: Mapping[str, Any], pass_name: str) -> Detections:
    """Return a pass's votes on a picture, best first; boxes may reach beyond it.

    Faces of a mirrored picture are mirrored back. The pass `original` also stands for what the reference would find on
    a smaller and on a larger picture: in the guide's script, both are the same rows again, filtered by size. So most
    faces of that pass have two or three votes, and they need no other; small ones on pictures of more than 1.7
    megapixels have one.

    Args:
        rows: float (K, 5), score x1 y1 x2 y2, relative to the square that the picture lies in; scores below
            `SCORE_THRESHOLD` are padding.
        meta: `width` and `height` of the original in pixels.
        pass_name: of the recipe.
    """
    rows = np.asarray(rows, dtype=np.float32)
    rows = rows[(rows[:, 0] >= SCORE_THRESHOLD) & np.isfinite(rows).all(axis=1)]
    width, height = int(meta["width"]), int(meta["height"])
    boxes, scores = rows[:, 1:] * np.float32(max(width, height)), rows[:, 0]
    if pass_name == preprocess.FLIPPED:
        return as_votes(mirrored(boxes, width), scores)
    is_enlarged = width * height < _ENLARGED_AREA
    copies = [np.ones(len(boxes), dtype=np.bool_), is_large(boxes), is_small(boxes) if is_enlarged else is_large(boxes)]
    votes = np.concatenate([np.flatnonzero(copy) for copy in copies])
    return as_votes(boxes[votes], scores[votes])


def is_large(boxes: Array) -> Array:
    """Return bool (N,): faces that a smaller picture still shows; the script counts pixels with both ends."""
    return np.asarray(_sides(boxes).max(axis=1) > _LARGE)


def is_small(boxes: Array) -> Array:
    """Return bool (N,): faces that a larger picture is looked at for."""
    return np.asarray(_sides(boxes).min(axis=1) < _SMALL)


def _sides(boxes: Array) -> Array:
    sides: Array = boxes[:, 2:] - boxes[:, :2] + np.float32(1)
    return sides


def mirrored(boxes: Array, width: int) -> Array:
    """Return the boxes (N, 4) of a mirrored picture where they are on the picture itself, which is so wide."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([np.float32(width) - x2, y1, np.float32(width) - x1, y2], axis=1)


def as_votes(boxes: Array, scores: Array) -> Detections:
    """Return boxes (N, 4) and scores (N,) as detections, best first."""
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes=boxes[order], scores=scores[order], labels=np.full(len(order), FACE, dtype=np.int64))
