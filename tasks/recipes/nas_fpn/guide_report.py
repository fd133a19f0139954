"""The report of the guide's evaluation script, line by line, for comparison with what the guide shows."""

from collections.abc import Mapping
from typing import Final

from tasks import coco_scores
from tasks.protocols import Dataset, Detections, Prediction

#: The script's limits on the detections of a category in an image: the first one for mAP, the last for all other lines.
MAX_DETECTIONS: Final = (100, 300, 1000)

_LINES: Final = {
    "bbox_mAP": "mAP",
    "bbox_mAP_50": "AP50",
    "bbox_mAP_75": "AP75",
    "bbox_mAP_s": "AP_small",
    "bbox_mAP_m": "AP_medium",
    "bbox_mAP_l": "AP_large",
}


def lines(predictions: Mapping[str, Prediction], dataset: Dataset) -> list[str]:
    """Return the script's seven lines; it drops trailing zeros in all but the last. Raises as `coco_scores.score`."""
    metrics = coco_scores.score(predictions, dataset, max_detections=_limits(predictions)).metrics()
    rounded = {title: f"{metrics[name]:.3f}" for title, name in _LINES.items()}
    single = [f"{title}: {float(value)}" for title, value in rounded.items()]
    return [*single, f"bbox_mAP_copypaste: {' '.join(rounded.values())}"]


def _limits(predictions: Mapping[str, Prediction]) -> tuple[int, ...]:
    """Return the script's limits, or COCO's where both give the same lines: the answer for those is there already."""
    counts = (len(found.scores) for found in predictions.values() if isinstance(found, Detections))
    return MAX_DETECTIONS if max(counts, default=0) > MAX_DETECTIONS[0] else coco_scores.MAX_DETECTIONS
