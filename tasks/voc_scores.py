"""Scores the detections of a whole VOC dataset: the metrics of a result, and the table of classes behind them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from npuq.errors import DatasetError
from tasks import coverage, voc_ap
from tasks.protocols import Dataset, Detections, Prediction, VocTruth
from tasks.voc_ap import ApRule, ClassMatches


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One way to average precision, and what the mean over classes and the number of one class are called."""

    mean: str
    one: str
    iou_threshold: float
    rule: ApRule


#: 0.45 is what the Ascend guide's script matches with: it hands on the threshold of its suppression.
_WAYS: Final = (
    _Way(mean="mAP", one="AP", iou_threshold=0.5, rule=ApRule.ELEVEN_POINTS),
    _Way(mean="mAP_iou45", one="AP_iou45", iou_threshold=0.45, rule=ApRule.ELEVEN_POINTS),
    _Way(mean="mAP_area", one="AP_area", iou_threshold=0.5, rule=ApRule.AREA),
    _Way(mean="mAP_area_iou45", one="AP_area_iou45", iou_threshold=0.45, rule=ApRule.AREA),
)


def metrics(predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
    """Return `mAP`, `mAP_iou45`, `mAP_area` and `mAP_area_iou45`, fractions.

    `mAP` is VOC 2007's: eleven points, a hit overlaps by more than 0.5. `area` is VOC's rule since 2010, `iou45` has
    the guide's 0.45. A class without an object that counts has no precision, and no part in the means.

    Raises:
        DatasetError: see `_matches`; or the images hold no object that counts, so that there is nothing to score.
    """
    of_classes = _matches(predictions, dataset)
    means = {}
    for way in _WAYS:
        every = [item.average_precision(iou_threshold=way.iou_threshold, rule=way.rule) for item in of_classes.values()]
        defined = [value for value in every if not math.isnan(value)]
        if not defined:
            raise DatasetError(
                f"None of the {len(predictions)} images of {dataset.ref.name!r} shows an object that counts: there is "
                "nothing to score. Take more images."
            )
        means[way.mean] = math.fsum(defined) / len(defined)
    return means


def facts(predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, Any]:
    """Return the table behind the means, JSON values.

    `per_class`: name -> `objects` that count, `difficult` ones, `detections`, and `AP`, `AP_iou45`, `AP_area` and
    `AP_area_iou45`, which are None without objects. `classes_without_objects`: names left out of the means.

    Raises:
        DatasetError: see `_matches`.
    """
    of_classes = _matches(predictions, dataset)
    return {
        "per_class": {name: _row(of_class) for name, of_class in of_classes.items()},
        "classes_without_objects": [name for name, of_class in of_classes.items() if of_class.objects_that_count == 0],
    }


def _row(of_class: ClassMatches) -> dict[str, Any]:
    values = {way.one: of_class.average_precision(iou_threshold=way.iou_threshold, rule=way.rule) for way in _WAYS}
    return {
        "objects": of_class.objects_that_count,
        "difficult": len(of_class.difficult) - of_class.objects_that_count,
        "detections": len(of_class.overlaps),
        **{name: None if math.isnan(value) else value for name, value in values.items()},
    }


def _matches(predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, ClassMatches]:
    """Return class name -> matches, the background left out.

    Raises:
        DatasetError: the dataset has no objects, an image has no prediction, a prediction has no image, or it is none
            of these classes.
    """
    if not isinstance(dataset, VocTruth):
        raise DatasetError(
            f"The dataset {dataset.ref.name!r} ({dataset.ref.format}) does not say which objects are in its images; "
            "this recipe is scored on a dataset of the format 'voc'."
        )
    detections = coverage.detections_of(predictions, dataset)
    names = list(dataset.class_names)[1:]
    _refuse_foreign_labels(detections, classes=len(names))
    truth = {image_id: dataset.objects(image_id) for image_id in detections}
    return dict(zip(names, voc_ap.match(detections, truth, classes=len(names)), strict=True))


def _refuse_foreign_labels(detections: Mapping[str, Detections], *, classes: int) -> None:
    for image_id, found in detections.items():
        foreign = (found.labels < 1) | (found.labels > classes)
        if foreign.any():
            raise DatasetError(
                f"The prediction for {image_id} has the label {found.labels[foreign][0]}, but this dataset has the "
                f"labels 1 to {classes}; it belongs to another recipe."
            )
