"""Average precision and recall as COCO defines them, computed by pycocotools.

Objects that lie in a crowd, areas that are not their box's, categories without objects and images without any follow
COCO's rules, because its own program applies them; this module only hands over arrays and reads the tables that come
back. Categories of predictions that the dataset does not have are ignored there.
"""

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from npuq.errors import DatasetError, InvalidRequestError
from tasks import coverage
from tasks.protocols import Array, CocoTruth, Dataset, Detections, Prediction

if TYPE_CHECKING:
    from pycocotools.coco import COCO

#: COCO's own limits on the detections of a category in an image, for its three recalls.
MAX_DETECTIONS: Final = (1, 10, 100)

_MAIN_LIMIT: Final = 100  #: of mAP, whatever the limits are: pycocotools' constant
_AREAS: Final = {"all": 0, "small": 1, "medium": 2, "large": 3}  #: below 32 x 32 pixels, below 96 x 96, above
_IOU_50, _IOU_75 = 0, 5  #: positions in 0.5, 0.55, ..., 0.95
_ABSENT: Final = -1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CocoScores:
    """What pycocotools found; -1 in the tables where there is nothing to find.

    Attributes:
        precision: float64 (10 overlaps, 101 recalls, categories, 4 areas, limits).
        recall: float64 (10 overlaps, categories, 4 areas, limits).
        category_names: of the categories' axis.
        objects: how many objects each category has, crowds not counted.
        max_detections: the limits' axis, ascending. The last one holds for all but mAP and the recalls by limit.
    """

    precision: Array
    recall: Array
    category_names: tuple[str, ...]
    objects: tuple[int, ...]
    max_detections: tuple[int, ...]

    def metrics(self) -> dict[str, float]:
        """Return COCO's twelve numbers, fractions; -1 where the dataset has no object of that size."""
        at_100 = self.max_detections.index(_MAIN_LIMIT)
        return {
            "mAP": _mean(self.precision[:, :, :, 0, at_100]),
            "AP50": _mean(self.precision[_IOU_50, :, :, 0, -1]),
            "AP75": _mean(self.precision[_IOU_75, :, :, 0, -1]),
            **{f"AP_{name}": _mean(self.precision[:, :, :, area, -1]) for name, area in _sizes()},
            **{f"AR{limit}": _mean(self.recall[:, :, 0, place]) for place, limit in enumerate(self.max_detections)},
            **{f"AR_{name}": _mean(self.recall[:, :, area, -1]) for name, area in _sizes()},
        }

    def per_category(self) -> dict[str, dict[str, float]]:
        """Return `mAP`, `AP50`, `AP75` and `objects` by name of category, for those that have objects."""
        at_100 = self.max_detections.index(_MAIN_LIMIT)
        return {
            name: {
                "mAP": _mean(self.precision[:, :, place, 0, at_100]),
                "AP50": _mean(self.precision[_IOU_50, :, place, 0, -1]),
                "AP75": _mean(self.precision[_IOU_75, :, place, 0, -1]),
                "objects": self.objects[place],
            }
            for place, name in enumerate(self.category_names)
            if self.objects[place]
        }


def score(
    predictions: Mapping[str, Prediction], dataset: Dataset, *, max_detections: Sequence[int] = MAX_DETECTIONS
) -> CocoScores:
    """Score the detections of every image of a dataset.

    Args:
        predictions: image id -> `Detections`, whose labels are category ids.
        dataset: one that is a `CocoTruth`.
        max_detections: how many detections of a category count in an image, ascending, three numbers with 100 among
            them; the NAS-FPN guide has 100, 300, 1000.

    Raises:
        DatasetError: an image without a prediction, a prediction without an image, or a dataset without boxes.
        InvalidRequestError: other limits than described.
    """
    limits = tuple(max_detections)
    if len(limits) != len(MAX_DETECTIONS) or sorted(set(limits)) != list(limits) or _MAIN_LIMIT not in limits:
        raise InvalidRequestError(f"COCO's limits are three ascending numbers with {_MAIN_LIMIT} among them: {limits}.")
    if not isinstance(dataset, CocoTruth):
        raise DatasetError(
            f"The dataset {dataset.ref.name!r} ({dataset.ref.format}) has no objects as COCO annotates them; this "
            "recipe is scored on a dataset of the format 'coco'."
        )
    detections = coverage.detections_of(predictions, dataset)
    return _answer(_Question(predictions=predictions, detections=detections, dataset=dataset, limits=limits))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Question:
    """What is asked. Equal is only what is the same: neither predictions nor datasets change once they are made."""

    predictions: Mapping[str, Prediction]
    detections: Mapping[str, Detections]
    dataset: CocoTruth
    limits: tuple[int, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[int, int, tuple[int, ...]]:
        return id(self.predictions), id(self.dataset), self.limits


@lru_cache(maxsize=1)  # a recipe is asked for its metrics, then for what is behind them: val2017 takes 40 seconds
def _answer(question: _Question) -> CocoScores:
    found = {question.dataset.coco_image_id(name): of_image for name, of_image in question.detections.items()}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks to people
        return _evaluate(question.dataset.instances, found, question.limits)


def _evaluate(instances: Mapping[str, Any], found: Mapping[int, Detections], limits: tuple[int, ...]) -> CocoScores:
    from pycocotools.cocoeval import COCOeval

    # Numbered anew from 1: pycocotools takes an object with the id 0 for one that nothing matches.
    objects = [{**annotation, "id": number} for number, annotation in enumerate(instances["annotations"], start=1)]
    evaluation = COCOeval(_index(instances, objects), _index(instances, _as_annotations(found)), "bbox")
    evaluation.params.imgIds = sorted(found)
    evaluation.params.maxDets = list(limits)
    evaluation.evaluate()
    evaluation.accumulate()
    names = {category["id"]: category["name"] for category in instances["categories"]}
    category_ids = evaluation.params.catIds
    counted = Counter(annotation["category_id"] for annotation in objects if not annotation["iscrowd"])
    return CocoScores(
        precision=evaluation.eval["precision"],
        recall=evaluation.eval["recall"],
        category_names=tuple(str(names[category_id]) for category_id in category_ids),
        objects=tuple(counted[category_id] for category_id in category_ids),
        max_detections=limits,
    )


def _index(instances: Mapping[str, Any], annotations: list[dict[str, Any]]) -> "COCO":
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = {
        "images": list(instances["images"]),
        "categories": list(instances["categories"]),
        "annotations": annotations,
    }
    index.createIndex()
    return index


def _as_annotations(found: Mapping[int, Detections]) -> list[dict[str, Any]]:
    """Return detections as pycocotools reads them: x, y, width and height, without the "+1" of pixel counting."""
    rows: list[dict[str, Any]] = []
    for coco_image_id, detections in found.items():
        boxes = np.asarray(detections.boxes, dtype=np.float32).reshape(-1, 4)
        corners = boxes[:, :2].tolist()
        sizes = (boxes[:, 2:] - boxes[:, :2]).tolist()
        for corner, size, value, label in zip(
            corners, sizes, detections.scores.tolist(), detections.labels.tolist(), strict=True
        ):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": coco_image_id,
                    "category_id": label,
                    "bbox": [*corner, *size],
                    "area": size[0] * size[1],
                    "iscrowd": 0,
                    "score": value,
                }
            )
    return rows


def _sizes() -> list[tuple[str, int]]:
    return [(name, area) for name, area in _AREAS.items() if name != "all"]


def _mean(values: Array) -> float:
    """Return the mean of what is not absent; -1 when all is."""
    present = values[values > _ABSENT]
    return float(present.mean()) if present.size else _ABSENT
