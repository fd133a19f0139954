"""Average precision by the rules of WIDER FACE, over arrays: no names, no files.

In each image, detections are gone through best score first, and each belongs to the face that it overlaps most, whether
that face counts or not. Where the overlap reaches the threshold, the first detection of a face that counts is right and
every further one wrong, and a detection of another face does not count at all. All else is wrong, except in an image
without any face, where nothing is looked at.

Scores are spread to 0 to 1 over the whole set; precision and recall are taken at a thousand thresholds. The numbers are
those of wondervictor/WiderFace-Evaluation @53474e0d, which restates the official MATLAB kit: float64 overlaps, with
"+1" in every width and height.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tasks.protocols import WIDER_DIFFICULTIES, Array, WiderFaces
from tasks.widerface_rounding import WrittenFaces

#: 0.999, 0.998, ... 0. As the published tools compute them.
_THRESHOLDS: Final = 1 - np.arange(1, 1001) / 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """All detections in images with faces, and all faces. Detections of one image stand together, best score first.

    Attributes:
        scores: float64 (D,), spread over 0 to 1.
        overlaps: float64 (D,), with the face that is overlapped most.
        faces: int64 (D,), which face that is.
        counted: difficulty -> bool (F,), the faces that are to be found.
    """

    scores: Array
    overlaps: Array
    faces: Array
    counted: dict[str, Array]

    def faces_that_count(self, difficulty: str) -> int:
        """Return how many faces there are to find."""
        return int(np.count_nonzero(self.counted[difficulty]))

    def curve(self, difficulty: str, *, iou: float) -> tuple[Array, Array]:
        """Return recall and precision at the thresholds 0.999, 0.998, ... 0: float64 (1000,) both.

        Precision is 0 where nothing has counted yet. There has to be a face to find.

        Args:
            difficulty: `easy`, `medium` or `hard`.
            iou: the least overlap of a detection that found a face; it is found at exactly that, too.
        """
        hits = np.flatnonzero(self.overlaps >= iou)
        fair = self.counted[difficulty][self.faces[hits]]
        proposed = np.ones(len(self.scores), dtype=bool)
        proposed[hits[~fair]] = False
        _, first = np.unique(self.faces[hits[fair]], return_index=True)
        right = self._above(self.scores[hits[fair][first]])
        return right / self.faces_that_count(difficulty), right / np.maximum(self._above(self.scores[proposed]), 1)

    def average_precision(self, difficulty: str, *, iou: float) -> float:
        """Return the area below the falling envelope of precision over recall, 0 to 1; NaN with nothing to find."""
        if self.faces_that_count(difficulty) == 0:
            return float("nan")
        recall, precision = self.curve(difficulty, iou=iou)
        recall = np.concatenate([[0.0], recall, [1.0]])
        best_from_here = np.maximum.accumulate(np.concatenate([precision, [0.0]])[::-1])[::-1]
        return float(np.sum(np.diff(recall) * best_from_here))

    @staticmethod
    def _above(scores: Array) -> Array:
        """Return how many scores reach each threshold: int64 (1000,)."""
        return np.asarray(len(scores) - np.searchsorted(np.sort(scores), _THRESHOLDS))


def match(found: Sequence[WrittenFaces], truth: Sequence[WiderFaces]) -> Matches:
    """Match the detections of all images with their faces.

    Args:
        found: one per image; scores are finite. Equal scores rank as they come.
        truth: of the same images.
    """
    low, high = _span(found)
    scores, overlaps, faces = [np.empty(0)], [np.empty(0)], [np.empty(0, dtype=np.int64)]
    before = 0
    for of_image, true in zip(found, truth, strict=True):
        if len(true.boxes) and len(of_image.scores):
            order = np.argsort(-of_image.scores, kind="stable")
            # Image by image: all pairs at once would need memory by the gigabyte, and one image fills vectors well.
            overlap = _overlaps(of_image.boxes[order], true.boxes)
            best = overlap.argmax(axis=1)
            scores.append((of_image.scores[order] - low) / (high - low))
            overlaps.append(overlap[np.arange(len(best)), best])
            faces.append(best + before)
        before += len(true.boxes)
    return Matches(
        scores=np.concatenate(scores),
        overlaps=np.concatenate(overlaps),
        faces=np.concatenate(faces),
        counted={
            difficulty: np.concatenate([np.empty(0, dtype=bool), *(true.counted[difficulty] for true in truth)])
            for difficulty in WIDER_DIFFICULTIES
        },
    )


def _span(found: Sequence[WrittenFaces]) -> tuple[float, float]:
    """Return the least and the largest score of all images, as the published tools find them: from 1 down, from 0 up.

    Where all scores are one and the same, these divide 0 by 0; here such scores become 1.
    """
    present = [of_image.scores for of_image in found if len(of_image.scores)]
    low = min([1.0, *(float(scores.min()) for scores in present)])
    high = max([0.0, *(float(scores.max()) for scores in present)])
    return (low - 1, high) if low == high else (low, high)


def _overlaps(found: Array, true: Array) -> Array:
    """Return intersection over union, float64 (D, F), of boxes (D, 4) and (F, 4), x y width height.

    0 where a box is not a number. Operations are in the order of the published tool, which decides at the threshold.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        end, true_end = found[:, 2:] + found[:, :2], true[:, 2:] + true[:, :2]
        wide, high = (
            np.minimum.outer(end[:, axis], true_end[:, axis]) - np.maximum.outer(found[:, axis], true[:, axis]) + 1
            for axis in (0, 1)
        )
        shared = wide * high
        area, true_area = (np.prod(last - first[:, :2] + 1, axis=1) for first, last in ((found, end), (true, true_end)))
        union = np.add.outer(area, true_area) - shared
        overlaps = np.divide(shared, union, out=np.zeros_like(shared), where=(wide > 0) & (high > 0))
    return np.where(overlaps > 0, overlaps, 0.0)
