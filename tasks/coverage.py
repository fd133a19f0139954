"""Do predictions and dataset belong together? Asked before anything is scored: half the images give a false metric."""

from collections.abc import Mapping
from typing import Final, TypeVar

from npuq.errors import DatasetError
from tasks.protocols import ClassScores, Dataset, Detections, Prediction

_Kind = TypeVar("_Kind", ClassScores, Detections)

_SHOWN: Final = 3


def detections_of(predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Detections]:
    """Return the detections of every image of a dataset, in its order.

    Raises:
        DatasetError: an image without a prediction, a prediction without an image, no image at all, or predictions
            that are no detections.
    """
    return _all_of(Detections, "no detections", predictions, dataset)


def class_scores_of(predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, ClassScores]:
    """Return the class scores of every image of a dataset, in its order; raises as `detections_of`."""
    return _all_of(ClassScores, "not class scores", predictions, dataset)


def require_all(predictions: Mapping[str, Prediction], dataset: Dataset) -> None:
    """Return when there is exactly one prediction for every image of a dataset.

    Raises:
        DatasetError: an image without a prediction, a prediction without an image, or no image at all.
    """
    image_ids = dataset.image_ids
    missing = [image_id for image_id in image_ids if image_id not in predictions]
    unknown = sorted(predictions.keys() - set(image_ids))
    if missing or unknown or not image_ids:
        raise DatasetError(
            f"Predictions and dataset {dataset.ref.name!r} do not match: {len(missing)} of {len(image_ids)} images "
            f"without a prediction ({', '.join(missing[:_SHOWN]) or 'none'}), {len(unknown)} predictions without an "
            f"image ({', '.join(unknown[:_SHOWN]) or 'none'})."
        )


def _all_of(
    kind: type[_Kind], otherwise: str, predictions: Mapping[str, Prediction], dataset: Dataset
) -> dict[str, _Kind]:
    require_all(predictions, dataset)
    found: dict[str, _Kind] = {}
    for image_id in dataset.image_ids:
        prediction = predictions[image_id]
        if not isinstance(prediction, kind):
            raise DatasetError(f"The prediction for {image_id} is {otherwise}; it belongs to another recipe.")
        found[image_id] = prediction
    return found
