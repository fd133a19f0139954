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
    boxes, scores = boxes[order], scores[order]
    faces = [(boxes[0], scores[0])] if len(scores) == 1 else _elect(boxes, scores)
    return Detections(
        boxes=np.array([box for box, _ in faces], dtype=np.float32).reshape(-1, 4),
        scores=np.array([score for _, score in faces], dtype=np.float32),
        labels=labels[: len(faces)],  # all are the same
    )


def _elect(boxes: Array, scores: Array) -> list[tuple[Array, Array]]:
    """Return the box (4,) and the score of each face; boxes (N, 4) and scores (N,) come best first."""
    faces: list[tuple[Array, Array]] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
    while len(boxes) and len(faces) < MOST:
        near, far = np.maximum(boxes[:, :2], boxes[0, :2]), np.minimum(boxes[:, 2:], boxes[0, 2:])
        shared = np.prod(np.maximum(far - near + 1, 0), axis=1)
        voters = shared / (areas + areas[0] - shared) >= OVERLAP
        voters[0] = True  # whatever its shape, or the loop would not end
        if np.count_nonzero(voters) > 1:
            weights = scores[voters]
            faces.append((weights @ boxes[voters] / weights.sum(), scores[0]))
        boxes, scores, areas = boxes[~voters], scores[~voters], areas[~voters]
    return faces
