"""From the raw heads to boxes on the picture: what mmdetection does in the graph, then what the guide's script does.

The guide's graph ends in a suppression operator that exists on Ascend only. Here the graph ends before it, and this
module computes what mmdetection's own float32 code does: the 1,000 best anchors of each level, boxes clipped to the
canvas, scores above 0.05, suppression class by class, the 100 best.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from tasks import coco_categories, nms
from tasks.protocols import Array, Detections
from tasks.recipes.nas_fpn.anchors import anchors, decode
from tasks.recipes.nas_fpn.shapes import ANCHORS_PER_CELL, BOX_VALUES, CANVAS, CLASSES, LEVELS

SCORE_THRESHOLD: Final = np.float32(0.05)  #: a detection has to exceed it
IOU_THRESHOLD: Final = 0.5
CANDIDATES_PER_LEVEL: Final = 1000  #: anchors, by their best class
MOST: Final = 100  #: detections of a picture

#: No logit up to this one exceeds the threshold (whose own is -2.9444): most anchors are done with before any sigmoid.
_HOPELESS_LOGIT: Final = np.float32(-2.95)


def detect(
    outputs: Sequence[Array], metas: Sequence[Mapping[str, Any]], *, exact_placement: bool = False
) -> list[Detections]:
    """Return the detections of the first `len(metas)` samples of a batch; the rows after them are padding.

    Args:
        outputs: class maps of the five levels (batch, 720, s, s), then delta maps (batch, 36, s, s), float32.
        metas: one per sample that counts, see `preprocess.prepare`.
        exact_placement: see `on_picture`.
    """
    classes, deltas = outputs[: len(LEVELS)], outputs[len(LEVELS) :]
    found = []
    for row, meta in enumerate(metas):
        boxes, scores, labels = on_canvas([each[row] for each in classes], [each[row] for each in deltas])
        found.append(
            Detections(
                boxes=on_picture(boxes, meta, exact_placement=exact_placement).astype(np.float32),
                scores=scores,
                labels=coco_categories.category_ids_of(labels),
            )
        )
    return found


def on_canvas(classes: Sequence[Array], deltas: Sequence[Array]) -> tuple[Array, Array, Array]:
    """Return boxes float32 (N, 4) in pixels of the canvas, scores float32 (N,), classes int64 (N,) 0 to 79, best first.

    Args:
        classes: logits of the five levels, float32 (720, s, s).
        deltas: of the five levels, float32 (36, s, s).
    """
    candidates = [_candidates(*maps) for maps in zip(LEVELS, classes, deltas, strict=True)]
    boxes, scores, labels = (np.concatenate(parts) for parts in zip(*candidates, strict=True))
    kept = nms.class_nms(boxes, scores, labels, iou_threshold=IOU_THRESHOLD, most=MOST)
    return boxes[kept], scores[kept], labels[kept]


def on_picture(boxes: Array, meta: Mapping[str, Any], *, exact_placement: bool = False) -> Array:
    """Return float64 (N, 4): boxes on the canvas float32 (N, 4) in pixels of the picture.

    As in the guide's script, near corners are moved into the picture from one side only, far corners from the other:
    what was found wholly in the padding comes out with a negative side.

    Args:
        boxes: x1 y1 x2 y2 in pixels of the canvas.
        meta: see `preprocess.prepare`.
        exact_placement: take scales and pads from where the picture lies. The script computes both from sides that are
            not rounded to pixels.
    """
    width, height = meta["width"], meta["height"]
    scale = min(CANVAS / width, CANVAS / height)
    scales = np.array([scale, scale])
    pads = np.array([(CANVAS - width * scale) // 2, (CANVAS - height * scale) // 2])
    if exact_placement:
        scales = np.array([meta["resized_width"] / width, meta["resized_height"] / height])
        pads = np.array([meta["pad_left"], meta["pad_top"]])
    corners = boxes.astype(np.float64).reshape(-1, 2, 2)
    near, far = ((corners - pads) / scales).transpose(1, 0, 2)
    return np.concatenate([np.maximum(near, 0), np.minimum(far, [width, height])], axis=1)


def _candidates(level: int, logits: Array, deltas: Array) -> tuple[Array, Array, Array]:
    """Return boxes, scores and classes of one level, every class of an anchor that exceeds the threshold."""
    by_anchor = np.asarray(logits, dtype=np.float32).reshape(ANCHORS_PER_CELL, CLASSES, -1)
    best = by_anchor.max(axis=1).T.ravel()
    chosen = np.flatnonzero(best > _HOPELESS_LOGIT)
    if len(chosen) > CANDIDATES_PER_LEVEL:
        chosen = chosen[np.argsort(-best[chosen], kind="stable")[:CANDIDATES_PER_LEVEL]]
    cell, anchor = np.divmod(chosen, ANCHORS_PER_CELL)
    scores = _sigmoid(by_anchor[anchor, :, cell])
    row, label = np.nonzero(scores > SCORE_THRESHOLD)
    moves = np.asarray(deltas, dtype=np.float32).reshape(ANCHORS_PER_CELL, BOX_VALUES, -1)[anchor, :, cell]
    return decode(anchors(level)[chosen], moves)[row], scores[row, label], label


def _sigmoid(logits: Array) -> Array:
    """Return float32, rounded once."""
    with np.errstate(over="ignore"):  # a logit far below zero: the score is 0
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
