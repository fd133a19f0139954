"""Do predictions and dataset belong together? Asked before anything is scored: half the images give a false metric."""

from collections.abc import Mapping
from typing import Final

from npuq.errors import DatasetError
from tasks.protocols import Dataset, Detections, Prediction

_SHOWN: Final = 3


def detections_of(predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Detections]:
    """Return the detections of every image of a dataset, in its order.

    Raises:
        DatasetError: an image without a prediction, a prediction without an image, no image at all, or predictions
            that are no detections.
    """
    require_all(predictions, dataset)
    found: dict[str, Detections] = {}
    for image_id in dataset.image_ids:
        prediction = predictions[image_id]
        if not isinstance(prediction, Detections):
            raise DatasetError(f"The prediction for {image_id} is no detections; it belongs to another recipe.")
        found[image_id] = prediction
    return found


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
