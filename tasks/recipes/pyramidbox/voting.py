"""Joins what the passes found on a picture: boxes that overlap vote for one, boxes that stand alone are dropped."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tasks.protocols import Array, Detections

OVERLAP: Final = 0.3  #: from which on boxes are taken for the same face
MOST: Final = 750  #: faces of a picture


def vote(passes: Sequence[Detections]) -> Detections:
    """Return the faces of a picture, best first, at most `MOST`.

    The best box gathers those that overlap it, itself included, into a face: their mean, weighed by score, with the
    greatest score. A box without another is no face, except when it is the only one of all passes: so the guide's
    script has it. Where it stops with an error, because no two boxes overlap, there are no faces here.

    Args:
        passes: the votes of each pass on the same picture, in its pixels.
    """
    boxes = np.concatenate([found.boxes for found in passes]).astype(np.float64).reshape(-1, 4)
    scores = np.concatenate([found.scores for found in passes]).astype(np.float64)
    labels = np.concatenate([found.labels for found in passes])
    order = np.argsort(-scores, kind="stable")
    table = np.concatenate([boxes[order], scores[order, None]], axis=1).T.copy()
    faces = table.T if len(scores) == 1 else _elect(table)
    return Detections(
        boxes=faces[:, :4].astype(np.float32),
        scores=faces[:, 4].astype(np.float32),
        labels=labels[: len(faces)],  # all are the same
    )


def _elect(table: Array) -> Array:
    """Return the faces, float64 (M, 5); the table (5, N) of x1, y1, x2, y2 and score comes best first."""
    faces: list[Array] = []
    while table.shape[1] and len(faces) < MOST:
        voters = _overlaps_with_first(table) >= OVERLAP
        voters[0] = True  # whatever its shape, or the loop would not end
        chosen = np.flatnonzero(voters)
        if len(chosen) > 1:
            group = table.take(chosen, axis=1)
            faces.append(np.append(group[:4] @ group[4] / group[4].sum(), table[4, 0]))
        table = table.take(np.flatnonzero(~voters), axis=1)  # several times faster than [:, ~voters]
    return np.array(faces).reshape(-1, 5)


def _overlaps_with_first(table: Array) -> Array:
    """Return float64 (N,): intersection over union of each box with the first one; both ends of a side count."""
    sides = table[2:4] - table[:2] + 1
    areas = sides[0] * sides[1]
    inner = np.maximum(np.minimum(table[2:4], table[2:4, :1]) - np.maximum(table[:2], table[:2, :1]) + 1, 0)
    shared = inner[0] * inner[1]
    overlaps: Array = shared / (areas + areas[0] - shared)
    return overlaps
