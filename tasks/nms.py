"""Greedy non-maximum suppression, class by class, without a Python loop over boxes.

The suppression of the published scripts: float32, overlap over union without the "+1" of pixel counting, a box goes
when its overlap with a better box of its class *exceeds* the threshold. Thresholds on scores and limits on candidates
are the caller's.
"""

import numpy as np

from tasks.protocols import Array


def class_nms(
    boxes: Array,
    scores: Array,
    labels: Array,
    *,
    iou_threshold: float,
    epsilon: float = 0.0,
    most: int | None = None,
) -> Array:
    """Return which boxes stay, best first.

    All classes advance together: in each round the best remaining box of every class is kept and its rivals go. So
    there are as many rounds as the richest class keeps boxes, whatever the number of candidates and classes.

    Args:
        boxes: float32 (N, 4), x1 y1 x2 y2, any unit. A side that is negative counts as zero; a box with a NaN neither
            removes nor is removed.
        scores: float32 (N,), no NaN.
        labels: int64 (N,), boxes of different labels never meet.
        iou_threshold: in [0, 1]; pairs that reach it exactly both stay.
        epsilon: added to the union, in the square of the boxes' unit.
        most: how many boxes to return at most, over all classes; None: all.

    Returns:
        int64 (M,), indices into `boxes`, by falling score; equal scores keep their order.
    """
    best_first = np.argsort(-scores, kind="stable")
    remaining = best_first[np.argsort(labels[best_first], kind="stable")]
    table = _corners_and_areas(boxes[remaining])
    kept = np.empty(0, dtype=np.int64)
    while len(remaining):
        leaders, leader_of = _leaders(labels.take(remaining))
        rivals = _overlaps(table, leader_of, epsilon) > iou_threshold
        rivals[leaders] = True
        kept = np.concatenate([kept, remaining[leaders]])
        if most is not None and len(kept) >= most:
            kept = kept[_best_first(kept, scores)[:most]]
            rivals |= scores[remaining] < scores[kept].min(initial=np.inf)
        stay = np.flatnonzero(~rivals)
        remaining, table = remaining.take(stay), table.take(stay, axis=1)  # several times faster than [:, stay]
    return kept[_best_first(kept, scores)]


def _corners_and_areas(boxes: Array) -> Array:
    """Return float32 (5, N): x1, y1, x2, y2, area."""
    x1, y1, x2, y2 = np.asarray(boxes, dtype=np.float32).reshape(-1, 4).T
    zero = np.float32(0)
    return np.stack([x1, y1, x2, y2, np.maximum(x2 - x1, zero) * np.maximum(y2 - y1, zero)])


def _leaders(labels: Array) -> tuple[Array, Array]:
    """Return where each class begins in sorted labels, and for every element (or for all) where its class begins."""
    if labels[0] == labels[-1]:
        first = np.zeros(1, dtype=np.int64)
        return first, first
    leaders = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    return leaders, np.repeat(leaders, np.diff(leaders, append=len(labels)))


def _overlaps(table: Array, leader_of: Array, epsilon: float) -> Array:
    """Return float32 (N,): intersection over union of every box with the leader of its class."""
    zero = np.float32(0)
    leaders = table.take(leader_of, axis=1)
    near, far = np.maximum(table[:2], leaders[:2]), np.minimum(table[2:4], leaders[2:4])
    width, height = np.maximum(far - near, zero)
    intersection = width * height
    with np.errstate(invalid="ignore", divide="ignore"):  # two boxes without area: 0 / 0 exceeds nothing
        overlaps: Array = intersection / (table[4] + leaders[4] - intersection + np.float32(epsilon))
    return overlaps


def _best_first(indices: Array, scores: Array) -> Array:
    return np.lexsort((indices, -scores[indices]))
