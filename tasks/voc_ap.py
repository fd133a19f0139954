"""Average precision by the rules of Pascal VOC, over arrays: no names, no files.

Detections of a class are gone through over all images, best score first. Each belongs to the object of its class and
image that it overlaps most. Where the overlap exceeds the threshold, the first detection of an object is right and
every further one wrong, and a detection of a difficult object does not count at all. All else is wrong.

Numbers are those of the guide's script: float32 overlaps without the "+1" of pixel counting, "more than" the threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np

from tasks.protocols import Array, Detections, VocObjects

#: Added to the union, in square pixels.
_EPSILON: Final = np.float32(1e-5)
#: The recalls of VOC 2007. As the scripts compute them: 0.3, 0.6 and 0.7 are a little above what is written here.
_ELEVEN_RECALLS: Final = np.arange(0.0, 1.1, 0.1)


class ApRule(StrEnum):
    """How precision is averaged over recall."""

    ELEVEN_POINTS = "11point"  #: VOC 2007: the mean of the best precisions at recalls of 0, 0.1, ... 1
    AREA = "area"  #: since VOC 2010: the area below the falling envelope


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMatches:
    """All detections of one class, best score first; equal scores in the order of the images.

    Attributes:
        overlaps: float32 (D,), with the object that is overlapped most; 0 where there is none.
        objects: int64 (D,), which of the class's objects that is; without meaning where the overlap is 0.
        difficult: bool (G,), the class's objects.
    """

    overlaps: Array
    objects: Array
    difficult: Array

    @property
    def objects_that_count(self) -> int:
        """Return how many objects there are to find."""
        return int(np.count_nonzero(~self.difficult))

    def average_precision(self, *, iou_threshold: float, rule: ApRule) -> float:
        """Return the average precision, 0 to 1; NaN when there is nothing to find."""
        if self.objects_that_count == 0:
            return float("nan")
        right, counted = self._judge(iou_threshold)
        found = np.cumsum(right, dtype=np.float64)
        # Nothing has counted yet where the best detections hit difficult objects; the script divides 0 by 0 there.
        precision = found / np.maximum(np.cumsum(counted), 1)
        recall = found / self.objects_that_count
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        if rule is ApRule.AREA:
            return float(np.sum(np.diff(recall, prepend=0) * best_from_here))
        reached = np.searchsorted(recall, _ELEVEN_RECALLS)
        return float(np.sum(np.append(best_from_here, 0)[reached] / len(_ELEVEN_RECALLS)))

    def _judge(self, iou_threshold: float) -> tuple[Array, Array]:
        """Return which detections are right, and which count at all: bool (D,) both."""
        hits = np.flatnonzero(self.overlaps.astype(np.float64) > iou_threshold)
        of_difficult = self.difficult[self.objects[hits]]
        counted = np.ones(len(self.overlaps), dtype=bool)
        counted[hits[of_difficult]] = False
        fair = hits[~of_difficult]
        _, first = np.unique(self.objects[fair], return_index=True)
        right = np.zeros(len(self.overlaps), dtype=bool)
        right[fair[first]] = True
        return right, counted


def match(
    detections: Mapping[str, Detections], truth: Mapping[str, VocObjects], *, classes: int
) -> tuple[ClassMatches, ...]:
    """Match the detections of all images with their objects.

    Args:
        detections: by image id; labels 1 to `classes`.
        truth: for the same image ids.
        classes: number of classes, the background not counted.

    Returns:
        One per class, label 1 first.
    """
    images = list(detections)
    found = _Rows.of([(item.boxes, item.labels, item.scores) for item in detections.values()])
    true = _Rows.of([(item.boxes, item.labels, item.difficult) for item in (truth[image] for image in images)])
    true = true.at(np.lexsort((true.images, true.labels)))
    overlaps, objects = _most_overlapped(found, true, images=len(images))
    order = np.lexsort((-found.numbers, found.labels))
    found_bounds = np.searchsorted(found.labels[order], np.arange(1, classes + 2))
    true_bounds = np.searchsorted(true.labels, np.arange(1, classes + 2))
    return tuple(
        ClassMatches(
            overlaps=overlaps[order[first:last]],
            objects=objects[order[first:last]] - first_true,
            difficult=true.numbers[first_true:last_true],
        )
        for (first, last), (first_true, last_true) in zip(pairwise(found_bounds), pairwise(true_bounds), strict=True)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Boxes of all images one below the other: float32 (R, 4), their labels and images (R,), and one number each."""

    boxes: Array
    labels: Array
    images: Array
    numbers: Array

    @classmethod
    def of(cls, images: Sequence[tuple[Array, Array, Array]]) -> "_Rows":
        """Join images, of which there is at least one."""
        boxes, labels, numbers = zip(*images, strict=True)
        return cls(
            boxes=np.concatenate(boxes).reshape(-1, 4).astype(np.float32, copy=False),
            labels=np.concatenate(labels),
            images=np.repeat(np.arange(len(images)), [len(of_image) for of_image in labels]),
            numbers=np.concatenate(numbers),
        )

    def at(self, rows: Array) -> "_Rows":
        """Return some rows, in their order."""
        return _Rows(
            boxes=self.boxes[rows], labels=self.labels[rows], images=self.images[rows], numbers=self.numbers[rows]
        )


def _most_overlapped(found: _Rows, true: _Rows, *, images: int) -> tuple[Array, Array]:
    """Return, for each detection, the largest overlap with an object of its class and image, and that object's row.

    The first of equal ones; an overlap of 0 where there is no such object. `true` is sorted by label and image.
    """
    places, true_places = (rows.labels * images + rows.images for rows in (found, true))
    first_object = np.searchsorted(true_places, places)
    rivals = np.searchsorted(true_places, places, side="right") - first_object
    overlaps, objects = np.zeros(len(places), dtype=np.float32), np.zeros(len(places), dtype=np.int64)
    paired = np.flatnonzero(rivals)
    if len(paired) == 0:
        return overlaps, objects
    starts = np.cumsum(rivals[paired]) - rivals[paired]  # of each detection's pairs among all pairs
    of_pair = np.repeat(np.arange(len(paired)), rivals[paired])
    pair_objects = first_object[paired[of_pair]] + np.arange(len(of_pair)) - starts[of_pair]
    of_pairs = _overlaps(found.boxes[paired[of_pair]], true.boxes[pair_objects])
    overlaps[paired] = np.maximum.reduceat(of_pairs, starts)
    largest = np.flatnonzero(of_pairs == overlaps[paired[of_pair]])
    objects[paired] = pair_objects[largest[np.searchsorted(of_pair[largest], np.arange(len(paired)))]]
    return overlaps, objects


def _overlaps(one: Array, other: Array) -> Array:
    """Return intersection over union, float32 (P,), of boxes (P, 4) pair by pair; 0 where a box is not a number."""
    zero = np.float32(0)
    with np.errstate(invalid="ignore", over="ignore"):
        sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
        shared = np.prod(np.maximum(sides, zero), axis=1)
        area, other_area = (np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], zero), axis=1) for boxes in (one, other))
        overlaps = shared / (area + other_area - shared + _EPSILON)
    return np.where(overlaps > 0, overlaps, zero)
