"""Top-1 to Top-5 of class scores, counted as the guides' script counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from npuq.errors import DatasetError
from tasks import coverage
from tasks.protocols import Array, ClassLabels, Dataset, Prediction

TOP: Final = 5
#: Networks with this many outputs have a background class at 0, so their class ids are one higher.
_WITH_BACKGROUND: Final = 1001


@dataclass(frozen=True, kw_only=True)
class TopKCounts:
    """How often the truth was among the best.

    Attributes:
        images: number of images scored.
        classes: scores per image.
        correct_at_rank: for k = 1 to `TOP`, images whose truth is among the k best.
    """

    images: int
    classes: int
    correct_at_rank: tuple[int, ...]

    def percent(self, k: int) -> float:
        """Return the accuracy at rank `k` in percent, not rounded."""
        return 100.0 * self.correct_at_rank[k - 1] / self.images

    def guide_report(self) -> dict[str, Any]:
        """Return the report that the guides' script writes, its strings and its rounding included."""
        # The script divides first and rounds with numpy, which can differ from Python's rounding in the last digit.
        shares = np.array(self.correct_at_rank, dtype=np.float64) / self.images
        ranks = [
            {"key": f"Top{k} accuracy", "value": f"{float(np.round(share * 100, 2))}%"}
            for k, share in enumerate(shares, start=1)
        ]
        return {
            "title": "Overall statistical evaluation",
            "value": [
                {"key": "Number of images", "value": str(self.images)},
                {"key": "Number of classes", "value": str(self.classes)},
                *ranks,
            ],
        }


def score(predictions: Mapping[str, Prediction], dataset: Dataset) -> TopKCounts:
    """Count the hits of a classifier in a dataset.

    Args:
        predictions: image id -> `ClassScores`.
        dataset: one with `ClassLabels`.

    Raises:
        DatasetError: an image without a prediction, a prediction without an image, no image, predictions that are no
            class scores, or a dataset without labels.
    """
    if not isinstance(dataset, ClassLabels):
        raise DatasetError(
            f"The dataset {dataset.ref.name!r} ({dataset.ref.format}) has no class labels; this recipe is scored on a "
            "dataset of the format 'imagenet'."
        )
    scores = coverage.class_scores_of(predictions, dataset)
    return count([of_image.scores for of_image in scores.values()], [dataset.label(image_id) for image_id in scores])


def count(scores: Sequence[Array], labels: Sequence[int]) -> TopKCounts:
    """Count hits.

    Args:
        scores: one (C,) per image, any monotone scale; with 1001 scores, score 0 is the background's.
        labels: class ids from 0, one per image, at least one.
    """
    ranks = [rank_of(row, label + (len(row) == _WITH_BACKGROUND)) for row, label in zip(scores, labels, strict=True)]
    return TopKCounts(
        images=len(ranks),
        classes=len(scores[0]),
        correct_at_rank=tuple(sum(rank < k for rank in ranks) for k in range(1, TOP + 1)),
    )


def rank_of(scores: Array, label: int) -> int:
    """Return how many classes come before `label` when sorted best first.

    Equal scores rank by class id. A score that is not a number comes last: a broken output is never a hit.
    """
    if label >= len(scores) or np.isnan(scores[label]):
        return len(scores)
    own = scores[label]
    return int(np.count_nonzero(scores > own) + np.count_nonzero(scores[:label] == own))
