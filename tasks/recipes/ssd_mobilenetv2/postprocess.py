"""From 3,000 scored boxes to detections, by the rules of the guide's script."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tasks.nms import class_nms
from tasks.protocols import Array, Detections

SCORE_THRESHOLD: Final = 0.01  #: a candidate scores more than this
IOU_THRESHOLD: Final = 0.45  #: a better box of its class removes what overlaps it by more
CANDIDATES: Final = 200  #: of one class that suppression looks at, the best
_EPSILON: Final = 1e-5  # of the union, in the square of the normalised unit


def detect(scores: Array, boxes: Array, meta: Mapping[str, Any]) -> Detections:
    """Return the detections of one picture, all classes, without a limit on their number.

    Args:
        scores: float (3000, 21), probabilities; column 0 is the background.
        boxes: float (3000, 4), x1 y1 x2 y2 relative to the picture.
        meta: `width` and `height` of the original in pixels.

    Returns:
        Boxes in pixels, not clipped to the picture; labels 1 to 20.
    """
    labels, rows, candidate_scores = _candidates(np.asarray(scores, dtype=np.float32))
    candidate_boxes = np.asarray(boxes, dtype=np.float32)[rows]
    kept = class_nms(candidate_boxes, candidate_scores, labels, iou_threshold=IOU_THRESHOLD, epsilon=_EPSILON)
    size = np.array([meta["width"], meta["height"]] * 2, dtype=np.float32)
    return Detections(boxes=candidate_boxes[kept] * size, scores=candidate_scores[kept], labels=labels[kept])


def _candidates(scores: Array) -> tuple[Array, Array, Array]:
    """Return label, row and score of the best candidates of each class, class by class, best first."""
    of_classes = np.ascontiguousarray(scores.T[1:])
    classes, rows = np.nonzero(of_classes > SCORE_THRESHOLD)
    found = of_classes[classes, rows]
    order = np.lexsort((-found, classes))
    classes, rows, found = classes[order], rows[order], found[order]
    rank = np.arange(len(classes)) - np.searchsorted(classes, classes)
    best = rank < CANDIDATES
    return classes[best] + 1, rows[best], found[best]
