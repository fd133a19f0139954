"""The report of the guide's evaluation script, line by line, for comparison with what the guide shows."""

from typing import Final

from tasks.coco_scores import CocoScores

#: The script's limits on the detections of a category in an image; mAP is for the first, the other lines for the last.
MAX_DETECTIONS: Final = (100, 300, 1000)

_LINES: Final = {
    "bbox_mAP": "mAP",
    "bbox_mAP_50": "AP50",
    "bbox_mAP_75": "AP75",
    "bbox_mAP_s": "AP_small",
    "bbox_mAP_m": "AP_medium",
    "bbox_mAP_l": "AP_large",
}


def lines(scores: CocoScores) -> list[str]:
    """Return the script's seven lines for scores with its limits; it drops trailing zeros in all lines but the last."""
    metrics = scores.metrics()
    rounded = {title: f"{metrics[name]:.3f}" for title, name in _LINES.items()}
    single = [f"{title}: {float(value)}" for title, value in rounded.items()]
    return [*single, f"bbox_mAP_copypaste: {' '.join(rounded.values())}"]
