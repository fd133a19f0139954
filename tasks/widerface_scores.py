"""Scores the detected faces of a whole WIDER FACE dataset, as the published tools score their text files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from npuq.errors import DatasetError, InvalidRequestError
from tasks import coverage, widerface_ap
from tasks.protocols import WIDER_DIFFICULTIES, Dataset, Detections, Prediction, WiderTruth
from tasks.widerface_ap import Matches
from tasks.widerface_rounding import as_written

OFFICIAL_IOU: Final = 0.5
#: What the evaluation of the PyramidBox ports matches with.
PORTS_IOU: Final = 0.4


@dataclass(frozen=True, kw_only=True)
class WiderScores:
    """Average precision of faces that are easy, of those and medium ones, and of nearly all: fractions.

    None where there is no such face to find: in a few images there need be no easy one.
    """

    easy: float | None
    medium: float | None
    hard: float | None

    def metrics(self) -> dict[str, float]:
        """Return them by the names of metrics: `AP_easy`, `AP_medium`, `AP_hard`, those that there are."""
        values = {f"AP_{difficulty}": getattr(self, difficulty) for difficulty in WIDER_DIFFICULTIES}
        return {name: value for name, value in values.items() if value is not None}


def score(predictions: Mapping[str, Prediction], dataset: Dataset, *, iou: float = OFFICIAL_IOU) -> WiderScores:
    """Score the detections of every image of a dataset.

    Boxes are rounded to one decimal and scores to three before anything is compared: the published chain does it on the
    way through its text files (`tasks.widerface_rounding`). Labels are not looked at, there are only faces.

    Args:
        predictions: image id -> `Detections`. Equal scores rank as they come.
        dataset: one that is a `WiderTruth`.
        iou: the overlap from which on a face is found, above 0, at most 1.

    Raises:
        DatasetError: an image without a prediction, a prediction without an image, one with a score that is no number,
            a dataset without faces, or none that counts for anything, so that there is nothing to score.
        InvalidRequestError: another `iou` than described.
    """
    return _scores(_matches(predictions, dataset), dataset, iou)


def facts(predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Any]:
    """Return what is behind the metrics, JSON values; same errors as `score`.

    `faces`: difficulty -> how many were to be found. `detections`: how many there were. `iou`: overlap, as text ->
    metrics at it, for the official 0.5 and for the 0.4 of the PyramidBox ports.
    """
    matches = _matches(predictions, dataset)
    return {
        "faces": {difficulty: matches.faces_that_count(difficulty) for difficulty in WIDER_DIFFICULTIES},
        "detections": sum(len(found.scores) for found in coverage.detections_of(predictions, dataset).values()),
        "iou": {str(iou): _scores(matches, dataset, iou).metrics() for iou in (OFFICIAL_IOU, PORTS_IOU)},
    }


def _scores(matches: Matches, dataset: Dataset, iou: float) -> WiderScores:
    if not 0 < iou <= 1:
        raise InvalidRequestError(f"Faces are matched at an overlap above 0 and up to 1, not at {iou}.")
    values = {difficulty: matches.average_precision(difficulty, iou=iou) for difficulty in WIDER_DIFFICULTIES}
    if all(math.isnan(value) for value in values.values()):
        raise DatasetError(
            f"None of the {len(dataset.image_ids)} images of {dataset.ref.name!r} that were used shows a face that "
            "counts for any difficulty: there is nothing to score. Take more images."
        )
    return WiderScores(**{name: None if math.isnan(value) else value for name, value in values.items()})


def _matches(predictions: Mapping[str, Prediction], dataset: Dataset) -> Matches:
    if not isinstance(dataset, WiderTruth):
        raise DatasetError(
            f"The dataset {dataset.ref.name!r} ({dataset.ref.format}) does not say which faces are in its images; this "
            "recipe is scored on a dataset of the format 'widerface'."
        )
    detections = coverage.detections_of(predictions, dataset)
    _refuse_odd_scores(detections)
    return widerface_ap.match(
        [as_written(found) for found in detections.values()], [dataset.faces(image_id) for image_id in detections]
    )


def _refuse_odd_scores(detections: Mapping[str, Detections]) -> None:
    """Refuse scores that are no numbers: one of them would spoil those of every image."""
    for image_id, found in detections.items():
        odd = found.scores[~np.isfinite(found.scores)]
        if len(odd):
            raise DatasetError(
                f"The prediction for {image_id} has the score {odd[0]}, which is no number: the model computes "
                "nonsense there. Look at its outputs for this image."
            )
