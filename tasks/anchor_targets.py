"""What a network should say of each anchor, for fitting a demo's weights: class, moves to a box, and who counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tasks.protocols import Array

_MATCH: Final = 0.5  # overlap from which an anchor is to find an object
_NO_MATCH: Final = 0.4  # overlap up to which it is to find none; between the two, nobody minds


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """The objects of one picture.

    Attributes:
        boxes: float32 (K, 4), x1 y1 x2 y2 in pixels of the network's input.
        labels: int64 (K,), the dataset's own label ids.
    """

    boxes: Array
    labels: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """What A anchors should say of N pictures.

    Attributes:
        classes: float32 (N, A, C), 1 for the class of an anchor's object.
        counts: float32 (N, A), 0 where nobody minds the classes.
        moves: float32 (N, A, 4), of anchors with an object: dx dy of the centre in sides of the anchor, dw dh as
            logarithms of the sides' growth.
        matched: float32 (N, A), 1 where there is one.
    """

    classes: Array
    counts: Array
    moves: Array
    matched: Array


def assign(centres: Array, sizes: Array, pictures: Sequence[Objects], class_of: Mapping[int, int]) -> Targets:
    """Match anchors with the objects that they overlap most; every object gets its best anchors in any case.

    Args:
        centres: float32 (A, 2), x y.
        sizes: float32 (A, 2), width height.
        pictures: N of them.
        class_of: label -> class, from 0.
    """
    shape = (len(pictures), len(centres))
    classes = np.zeros((*shape, len(class_of)), dtype=np.float32)
    counts = np.ones(shape, dtype=np.float32)
    moves = np.zeros((*shape, 4), dtype=np.float32)
    matched = np.zeros(shape, dtype=np.float32)
    anchors = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    for number, objects in enumerate(pictures):
        if not len(objects.boxes):
            continue
        overlaps = _overlaps(anchors, objects.boxes)
        mine = overlaps.argmax(axis=1)
        best = (overlaps >= overlaps.max(axis=0) - 1e-6).any(axis=1)
        found = np.flatnonzero(best | (overlaps.max(axis=1) >= _MATCH))
        counts[number, overlaps.max(axis=1) >= _NO_MATCH] = 0
        counts[number, found] = matched[number, found] = 1
        boxes = objects.boxes[mine[found]]
        labels = [class_of[int(label)] for label in objects.labels[mine[found]]]
        classes[number, found, labels] = 1
        offsets = ((boxes[:, :2] + boxes[:, 2:]) / 2 - centres[found]) / sizes[found]
        scales = np.log((boxes[:, 2:] - boxes[:, :2]) / sizes[found])
        moves[number, found] = np.concatenate([offsets, scales], axis=1)
    return Targets(classes=classes, counts=counts, moves=moves, matched=matched)


def _overlaps(anchors: Array, boxes: Array) -> Array:
    """Return float32 (A, K): intersection over union."""
    near = np.maximum(anchors[:, None, :2], boxes[None, :, :2])
    far = np.minimum(anchors[:, None, 2:], boxes[None, :, 2:])
    inner = np.prod(np.maximum(far - near, 0), axis=2)
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (anchors, boxes)]
    return np.asarray(inner / (areas[0][:, None] + areas[1][None, :] - inner))
