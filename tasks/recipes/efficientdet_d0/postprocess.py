"""From the network's ten maps to detections, as effdet's bench and evaluator do, without a loop over boxes.

The published order: the 5,000 best of all 4.4 million logits, decode, clip, suppress, the best 100, drop what scores
less than 0.001. What would be dropped at the end is dropped first here: a box never suppresses a better one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from tasks import nms
from tasks.protocols import Array, Detections
from tasks.recipes.efficientdet_d0 import anchors, preprocess
from tasks.recipes.efficientdet_d0.shapes import ANCHORS_PER_CELL, CLASSES, CODES, STRIDES

CANDIDATES: Final = 5000
DETECTIONS: Final = 100
IOU_THRESHOLD: Final = 0.5
LOWEST_SCORE: Final = 0.001

_LEVELS: Final = len(STRIDES)
_LOWEST_LOGIT: Final = np.float32(-6.91)  # a little below the logit of LOWEST_SCORE


def detect(maps: Sequence[Array], meta: Mapping[str, Any]) -> Detections:
    """Return the detections of one image, best first; labels are COCO's category ids.

    Args:
        maps: ten arrays float32, levels 3 to 7: class logits (9 * 90, S, S), then box codes (9 * 4, S, S).
        meta: from `preprocess.letterbox`.
    """
    table = anchors.anchors(STRIDES[0] * maps[0].shape[-1])
    chosen, classes, logits = _candidates(maps[:_LEVELS])
    codes = _gather([_per_anchor(level, CODES) for level in maps[_LEVELS:]], chosen, table.level_starts)
    boxes = anchors.decode(codes, table.centres[chosen], table.sizes[chosen])
    size, scale = preprocess.original_size(meta)
    boxes = np.clip(boxes, np.float32(0), np.tile(size / scale, 2))
    scores = np.float32(1) / (np.float32(1) + np.exp(-logits))
    good = np.flatnonzero(scores >= LOWEST_SCORE)
    kept = good[nms.class_nms(boxes[good], scores[good], classes[good], iou_threshold=IOU_THRESHOLD, most=DETECTIONS)]
    # The 90 classes are the ids 1 to 90 with their holes: no table is needed.
    return Detections(boxes=boxes[kept] * scale, scores=scores[kept], labels=classes[kept] + 1)


def _per_anchor(level: Array, values: int) -> Array:
    """Return a map (9 * values, S, S) as float32 (9, values, S * S), without copying."""
    return np.asarray(level, dtype=np.float32).reshape(ANCHORS_PER_CELL, values, -1)


def _candidates(levels: Sequence[Array]) -> tuple[Array, Array, Array]:
    """Return anchor, class (both int64) and logit of the best `CANDIDATES` pairs, in order of anchor and class.

    Each anchor's best class is looked at first. If `CANDIDATES` anchors reach some logit, then no pair below it can be
    among the best, so that few anchors are looked at whole.
    """
    maps = [_per_anchor(level, CLASSES) for level in levels]
    best = np.concatenate([level.max(axis=1).T.ravel() for level in maps])
    promising = best[best >= _LOWEST_LOGIT]
    least = _LOWEST_LOGIT if len(promising) <= CANDIDATES else np.partition(promising, -CANDIDATES)[-CANDIDATES]
    chosen = np.flatnonzero(best >= least)
    starts = np.cumsum([0, *(level.shape[0] * level.shape[2] for level in maps)]).tolist()
    logits = _gather(maps, chosen, starts)
    rows, classes = np.nonzero(logits >= least)
    found = logits[rows, classes]
    if len(found) > CANDIDATES:
        top = np.sort(np.argpartition(-found, CANDIDATES - 1)[:CANDIDATES])
        rows, classes, found = rows[top], classes[top], found[top]
    return chosen[rows], classes, found


def _gather(maps: Sequence[Array], chosen: Array, starts: Sequence[int]) -> Array:
    """Return float32 (N, values): what the maps (9, values, cells) say at anchors, given in ascending order."""
    bounds = np.searchsorted(chosen, starts)
    parts = []
    for level, start, first, last in zip(maps, starts[:-1], bounds[:-1], bounds[1:], strict=True):
        cells, kinds = np.divmod(chosen[first:last] - start, ANCHORS_PER_CELL)
        parts.append(level[kinds, :, cells])
    return np.concatenate(parts)
