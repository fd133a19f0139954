"""VOC's numbers: their names, what has no part in them, and what independent evaluators say of the same detections."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from npuq.errors import DatasetError
from tasks import metrics, voc_scores
from tasks.protocols import ClassScores, Detections, VocTruth
from tests.services.missing import missing
from tests.unit.tasks.memory_coco import random_coco
from tests.unit.tasks.memory_voc import MemoryVoc, detections, objects, random_detections, random_voc

BOX, FAR = (10.0, 10.0, 50.0, 60.0), (200.0, 200.0, 260.0, 240.0)


def test_every_number_is_on_the_list_of_metrics() -> None:
    """Reports know their units and titles."""
    dataset = random_voc(1)
    assert isinstance(dataset, VocTruth)
    found = voc_scores.metrics(random_detections(dataset, 2), dataset)
    assert list(found) == ["mAP", "mAP_iou45", "mAP_area", "mAP_area_iou45"]
    assert {metrics.definition(name).unit for name in found} == {"fraction"}
    assert all(0 < value < 1 for value in found.values())


def test_guides_threshold_and_the_usual_one_differ_where_they_should() -> None:
    """An overlap of 0.47 is a hit for the guide's script only."""
    dataset = MemoryVoc(truth={"a": objects([((0, 0, 100, 100), 3, False)])})
    found = voc_scores.metrics({"a": detections([((0, 0, 47, 100), 3, 0.9)])}, dataset)
    assert found == {"mAP": 0.0, "mAP_iou45": 1.0, "mAP_area": 0.0, "mAP_area_iou45": 1.0}


def test_class_without_objects_has_no_part_in_the_mean_and_is_named() -> None:
    """Its precision is undefined, whatever was detected; so is that of a class of difficult objects only."""
    dataset = MemoryVoc(truth={"a": objects([(BOX, 1, False), (FAR, 2, True)]), "b": objects([(BOX, 4, False)])})
    predictions = {"a": detections([(BOX, 1, 0.9), (BOX, 3, 0.8)]), "b": detections([])}
    assert voc_scores.metrics(predictions, dataset)["mAP"] == 0.5
    facts = json.loads(json.dumps(voc_scores.facts(predictions, dataset), allow_nan=False))
    table = facts["per_class"]
    assert list(table) == list(dataset.class_names[1:])
    assert [table[name]["AP"] for name in ("aeroplane", "bicycle", "bird", "boat")] == [1.0, None, None, 0.0]
    assert table["bicycle"] == {
        "objects": 0,
        "difficult": 1,
        "detections": 0,
        **dict.fromkeys(["AP", "AP_iou45", "AP_area", "AP_area_iou45"]),
    }
    assert table["bird"]["detections"] == 1
    assert facts["classes_without_objects"] == [name for name in table if name not in ("aeroplane", "boat")]


def test_nothing_to_find_is_an_error() -> None:
    """Zero would be a wrong answer, and a number that is none would spoil the history."""
    dataset = MemoryVoc(truth={"a": objects([(BOX, 1, True)])})
    with pytest.raises(DatasetError, match="nothing to score"):
        voc_scores.metrics({"a": detections([])}, dataset)


def test_view_of_the_first_images_counts_their_objects_only() -> None:
    """With a limit, objects of other images are not missed."""
    dataset = MemoryVoc(truth={"a": objects([(BOX, 1, False)]), "b": objects([(BOX, 1, False)])})
    found = {"a": detections([(BOX, 1, 0.9)])}
    assert voc_scores.metrics(found, dataset.first(1))["mAP"] == 1.0
    assert voc_scores.metrics({**found, "b": detections([])}, dataset)["mAP_area"] == 0.5


def test_order_of_the_predictions_does_not_matter() -> None:
    """Shards come in any order, and equal scores rank by the dataset's order."""
    dataset = random_voc(3)
    predictions = {
        image_id: Detections(boxes=found.boxes, scores=np.ones_like(found.scores), labels=found.labels)
        for image_id, found in random_detections(dataset, 4).items()
    }
    backwards = dict(reversed(predictions.items()))
    assert voc_scores.metrics(backwards, dataset) == voc_scores.metrics(predictions, dataset)


@pytest.mark.parametrize("label", [0, 21])
def test_label_that_the_dataset_does_not_have_is_refused(label: int) -> None:
    """Predictions of another recipe are no bad predictions of this one."""
    dataset = MemoryVoc(truth={"a": objects([(BOX, 1, False)])})
    with pytest.raises(DatasetError, match=f"label {label}, but"):
        voc_scores.metrics({"a": detections([(BOX, label, 0.9)])}, dataset)


def test_predictions_and_dataset_must_belong_together() -> None:
    """Images without a prediction, scores instead of boxes, a dataset without VOC's truth."""
    dataset = MemoryVoc(truth={"a": objects([(BOX, 1, False)]), "b": objects([])})
    with pytest.raises(DatasetError, match="1 of 2 images"):
        voc_scores.metrics({"a": detections([])}, dataset)
    with pytest.raises(DatasetError, match="no detections"):
        voc_scores.metrics({"a": detections([]), "b": ClassScores(scores=np.zeros(3))}, dataset)
    with pytest.raises(DatasetError, match="format 'voc'"):
        voc_scores.metrics({}, random_coco(1))


# Independent evaluators.


@pytest.fixture
def mmdet_mean_ap(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return mmdet's module of that name (2.8.0), with stand-ins for what it prints with."""
    package = find_spec("mmdet")  # not imported: that would need all that it needs
    if package is None or package.origin is None:
        missing("mmdet is not installed")
    folder = Path(package.origin).parent / "core" / "evaluation"
    stand_ins: dict[str, dict[str, Any]] = {
        "mmcv": {"is_str": lambda value: isinstance(value, str)},
        "mmcv.utils": {"print_log": None},
        "terminaltables": {"AsciiTable": None},
        "mmdet_evaluation": {"__path__": [str(folder)]},
    }
    for name, attributes in stand_ins.items():
        stand_in = ModuleType(name)
        vars(stand_in).update(attributes)
        monkeypatch.setitem(sys.modules, name, stand_in)
    for name in ("class_names", "bbox_overlaps", "mean_ap"):
        spec = spec_from_file_location(f"mmdet_evaluation.{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    monkeypatch.setattr(module, "Pool", lambda _processes: SerialPool())
    return module


class SerialPool:
    """Does in this process what mmdet wants done in others."""

    def starmap(self, function: Any, rows: Iterator[Sequence[Any]]) -> list[Any]:
        """Call the function on each row."""
        return [function(*row) for row in rows]

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("seed", range(8))
def test_mmdet_says_the_same(seed: int, mmdet_mean_ap: Any) -> None:
    """Its evaluator ignores difficult objects too; it computes in float32 and without an epsilon."""
    dataset = random_voc(seed)
    predictions = random_detections(dataset, seed + 100)
    ours = voc_scores.metrics(predictions, dataset)
    table = voc_scores.facts(predictions, dataset)["per_class"]
    labels = range(1, len(dataset.class_names))
    rows = [
        [np.concatenate([found.boxes, found.scores[:, None]], axis=1)[found.labels == label] for label in labels]
        for found in predictions.values()
    ]
    truth = [
        {
            "bboxes": true.boxes[~true.difficult],
            "labels": true.labels[~true.difficult] - 1,
            "bboxes_ignore": true.boxes[true.difficult],
            "labels_ignore": true.labels[true.difficult] - 1,
        }
        for true in dataset.truth.values()
    ]
    for suffix, iou_threshold, dataset_name in (
        ("", 0.5, "voc07"),
        ("_iou45", 0.45, "voc07"),
        ("_area", 0.5, None),
        ("_area_iou45", 0.45, None),
    ):
        mean, classes = mmdet_mean_ap.eval_map(
            rows, truth, iou_thr=iou_threshold, dataset=dataset_name, logger="silent", nproc=1
        )
        assert ours[f"mAP{suffix}"] == pytest.approx(mean, abs=1e-6)
        theirs = [of_class["ap"] if of_class["num_gts"] else None for of_class in classes]
        assert [row[f"AP{suffix}"] for row in table.values()] == [
            None if value is None else pytest.approx(value, abs=1e-6) for value in theirs
        ]


@pytest.mark.parametrize("seed", range(8))
def test_object_detection_metrics_says_the_same(seed: int) -> None:
    """It knows no difficult objects, so there are none here. Who wants it installs it: it draws plots, too."""
    evaluator: Any = pytest.importorskip("podm.metrics", exc_type=ImportError)
    dataset = random_voc(seed, difficult=0)
    predictions = random_detections(dataset, seed + 100)
    ours = voc_scores.metrics(predictions, dataset)
    true = [
        evaluator.BoundingBox.of_bbox(image_id, label, *box)
        for image_id, item in dataset.truth.items()
        for box, label in zip(item.boxes.tolist(), item.labels.tolist(), strict=True)
    ]
    found = [
        evaluator.BoundingBox.of_bbox(image_id, label, *box, score)
        for image_id, item in predictions.items()
        for box, label, score in zip(item.boxes.tolist(), item.labels.tolist(), item.scores.tolist(), strict=True)
    ]
    for suffix, iou_threshold, method in (
        ("", 0.5, "ElevenPointsInterpolation"),
        ("_iou45", 0.45, "ElevenPointsInterpolation"),
        ("_area", 0.5, "AllPointsInterpolation"),
        ("_area_iou45", 0.45, "AllPointsInterpolation"),
    ):
        classes: Mapping[int, Any] = evaluator.get_pascal_voc_metrics(
            true, found, iou_threshold, evaluator.MethodAveragePrecision[method]
        )
        mean = np.mean([of_class.ap for of_class in classes.values() if of_class.num_groundtruth])
        assert ours[f"mAP{suffix}"] == pytest.approx(mean, abs=1e-9)
