"""COCO's numbers, against its own program and an independent one given the same detections as files."""

import importlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from npuq.errors import DatasetError, InvalidRequestError
from tasks import coco_scores, metrics
from tasks.protocols import ClassScores, CocoTruth, Detections
from tests.services.missing import missing
from tests.unit.tasks.memory_coco import MemoryCoco, detections, random_coco, random_detections

NAMES = [
    *("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
]


def as_files(dataset: MemoryCoco, predictions: dict[str, Detections], folder: Path) -> tuple[Path, Path]:
    """Write truth and detections as the published scripts do; ids of annotations from 1."""
    truth = {
        **dataset.instances,
        "annotations": [{**entry, "id": entry["id"] + 1} for entry in dataset.instances["annotations"]],
    }
    rows = [
        {
            "image_id": int(image_id),
            "category_id": int(label),
            "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            "score": float(score),
        }
        for image_id, found in predictions.items()
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(rows))
    return folder / "truth.json", folder / "found.json"


def summarised(truth: Path, found: Path, limits: tuple[int, ...], packages: tuple[str, str, str]) -> list[float]:
    """Return what an evaluator's own summary says."""
    coco_module, eval_module, class_names = packages
    truth_class, eval_class = class_names.split()
    coco = getattr(importlib.import_module(coco_module), truth_class)(str(truth))
    evaluation: Any = getattr(importlib.import_module(eval_module), eval_class)(
        coco, coco.loadRes(str(found)), iouType="bbox"
    )
    evaluation.params.maxDets = list(limits)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats[:12]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limits", [(1, 10, 100), (100, 300, 1000), (2, 3, 100)])
def test_twelve_numbers_are_those_of_cocos_own_summary(seed: int, limits: tuple[int, int, int], tmp_path: Path) -> None:
    """Crowds, odd areas, empty images, equal scores, unknown categories: nothing gets lost on the way."""
    dataset = random_coco(seed)
    predictions = random_detections(dataset, seed + 100)
    scores = coco_scores.score(predictions, dataset, max_detections=limits).metrics()
    files = as_files(dataset, predictions, tmp_path)
    theirs = summarised(*files, limits, ("pycocotools.coco", "pycocotools.cocoeval", "COCO COCOeval"))
    assert list(scores.values()) == pytest.approx(theirs, abs=1e-12)
    assert 0 < scores["mAP"] < 1


def test_independent_evaluator_agrees(tmp_path: Path) -> None:
    """Another implementation reads the same files; an image has more detections of a category than count."""
    if find_spec("faster_coco_eval") is None:
        missing("faster-coco-eval is not installed")
    dataset = random_coco(7, images=30)
    predictions = random_detections(dataset, 8)
    crowded = np.random.default_rng(9).uniform(1, 200, (130, 4))
    predictions[dataset.image_ids[3]] = detections([(*row, 0.9 - place / 200, 3) for place, row in enumerate(crowded)])
    files = as_files(dataset, predictions, tmp_path)
    theirs = summarised(*files, (1, 10, 100), ("faster_coco_eval", "faster_coco_eval", "COCO COCOeval_faster"))
    assert list(coco_scores.score(predictions, dataset).metrics().values()) == pytest.approx(theirs, abs=1e-9)


def one_image(*annotations: dict[str, Any]) -> MemoryCoco:
    defaults = {"id": 0, "image_id": 7, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0}
    return MemoryCoco(
        instances={
            "images": [{"id": 7, "file_name": "000000000007.jpg"}],
            "annotations": [defaults | entry for entry in annotations],
            "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}],
        }
    )


def score_one(dataset: MemoryCoco, *rows: tuple[float, float, float, float, float, int]) -> dict[str, float]:
    return coco_scores.score({"000000000007": detections(list(rows))}, dataset).metrics()


def test_all_twelve_names_have_a_unit() -> None:
    """Every number can be stored and shown."""
    scores = score_one(one_image({}), (10, 10, 50, 50, 0.9, 1))
    assert list(scores) == NAMES
    assert {metrics.definition(name).unit for name in (*NAMES, "AR300", "AR1000")} == {"fraction"}


def test_object_with_the_id_zero_can_be_found() -> None:
    """The id 0 means "not matched" to pycocotools, which would count such an object as missed."""
    assert score_one(one_image({"id": 0}), (10, 10, 50, 50, 0.9, 1))["mAP"] == pytest.approx(1)


def test_detections_in_a_crowd_count_neither_way() -> None:
    """A crowd swallows what lies in it, and is not missed."""
    dataset = one_image({"id": 1}, {"id": 2, "bbox": [200, 200, 200, 200], "area": 40_000, "iscrowd": 1})
    in_crowd = [(210.0 + 30 * number, 210.0, 25.0, 25.0, 0.95, 1) for number in range(4)]
    assert score_one(dataset, *in_crowd, (10, 10, 50, 50, 0.9, 1))["mAP"] == pytest.approx(1)
    outside = (600.0, 10.0, 25.0, 25.0, 0.95, 1)
    assert score_one(dataset, outside, (10, 10, 50, 50, 0.9, 1))["mAP"] == pytest.approx(0.5)


def test_size_of_an_object_is_its_area_not_its_box() -> None:
    """A thin thing in a large box is small."""
    scores = score_one(one_image({"area": 900.0}), (10, 10, 50, 50, 0.9, 1))
    assert scores["AP_small"] == pytest.approx(1)
    assert (scores["AP_medium"], scores["AP_large"]) == (-1.0, -1.0)


def test_no_detection_at_all_scores_zero() -> None:
    """An empty result is a result."""
    scores = score_one(one_image({}))
    assert (scores["mAP"], scores["AR100"]) == (0.0, 0.0)


def test_dataset_without_objects_scores_minus_one() -> None:
    """As COCO's program says it: there is nothing to find, and so no number."""
    assert set(score_one(one_image(), (10, 10, 50, 50, 0.9, 1)).values()) == {-1.0}


def test_images_without_objects_make_false_detections_count() -> None:
    """They are part of the dataset."""
    dataset = random_coco(3)
    predictions = {image_id: detections([]) for image_id in dataset.image_ids}
    place = dataset.image_ids.index(f"{dataset.instances['images'][1]['id']:012d}")
    full = {
        image_id: detections(
            [
                (*entry["bbox"], 0.5, entry["category_id"])
                for entry in dataset.instances["annotations"]
                if entry["image_id"] == int(image_id)
            ]
        )
        for image_id in dataset.image_ids
    }
    assert coco_scores.score(predictions | full, dataset).metrics()["mAP"] > 0.99
    spoiled = full | {dataset.image_ids[place]: detections([(1, 1, 50, 50, 0.9, 1)] * 30)}
    assert coco_scores.score(spoiled, dataset).metrics()["mAP"] < 0.9


def test_view_of_the_first_images_has_the_truth_of_those_only() -> None:
    """A limit neither misses objects that were not shown nor counts others."""
    dataset = random_coco(4)
    predictions = random_detections(dataset, 5)
    part = dataset.first(5)
    some = {image_id: predictions[image_id] for image_id in part.image_ids}
    assert coco_scores.score(some, part).metrics() != coco_scores.score(predictions, dataset).metrics()
    with pytest.raises(DatasetError, match="7 predictions without an image"):
        coco_scores.score(predictions, part)


def test_order_of_predictions_does_not_matter() -> None:
    """Results are joined by id; shards come in any order."""
    dataset = random_coco(9)
    predictions = random_detections(dataset, 10)
    backwards = dict(reversed(predictions.items()))
    assert coco_scores.score(backwards, dataset).metrics() == coco_scores.score(predictions, dataset).metrics()


def test_categories_with_objects_are_scored_one_by_one() -> None:
    """Their mean is the whole; a category without objects has no row."""
    dataset = random_coco(11)
    scores = coco_scores.score(random_detections(dataset, 12), dataset)
    table = scores.per_category()
    assert set(table) == {"thing 1", "thing 3", "thing 13"}
    assert np.mean([row["mAP"] for row in table.values()]) == pytest.approx(scores.metrics()["mAP"])
    counted = [entry for entry in dataset.instances["annotations"] if not entry["iscrowd"]]
    assert sum(row["objects"] for row in table.values()) == len(counted)


def test_same_question_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics and facts are asked one after the other; others get an answer of their own."""
    evaluate = Mock(side_effect=coco_scores._evaluate)
    monkeypatch.setattr(coco_scores, "_evaluate", evaluate)
    dataset, predictions = random_coco(17), random_detections(random_coco(17), 18)
    assert coco_scores.score(predictions, dataset) is coco_scores.score(predictions, dataset)
    assert evaluate.call_count == 1
    again = coco_scores.score(dict(predictions), dataset)
    coco_scores.score(predictions, dataset, max_detections=(1, 2, 100))
    assert evaluate.call_count == 3
    assert again.metrics() == coco_scores.score(predictions, random_coco(17)).metrics()
    assert evaluate.call_count == 4


def test_truth_is_left_as_it_was() -> None:
    """What pycocotools does: it writes into what it is given; the dataset is scored again with others."""
    dataset = random_coco(13)
    before = json.dumps(dataset.instances)
    coco_scores.score(random_detections(dataset, 14), dataset)
    assert json.dumps(dataset.instances) == before


def test_pycocotools_is_kept_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """A job's log is not full of its progress."""
    score_one(one_image({}), (10, 10, 50, 50, 0.9, 1))
    assert capsys.readouterr().out == ""


def test_missing_images_are_named() -> None:
    """A metric over half of the images would look like one over all."""
    dataset = random_coco(15)
    predictions = random_detections(dataset, 16)
    gone = dataset.image_ids[2]
    del predictions[gone]
    with pytest.raises(DatasetError, match=f"1 of 12 images without a prediction \\({gone}\\)"):
        coco_scores.score(predictions, dataset)


def test_predictions_of_a_classifier_are_refused() -> None:
    """They have no boxes."""
    with pytest.raises(DatasetError, match="another recipe"):
        coco_scores.score({"000000000007": ClassScores(scores=np.zeros(3))}, one_image({}))


@pytest.mark.parametrize("limits", [(10, 100), (1, 10, 50), (10, 1, 100), (100, 100, 300)])
def test_limits_without_a_meaning_are_refused(limits: tuple[int, ...]) -> None:
    """The mean AP is defined at 100 detections."""
    with pytest.raises(InvalidRequestError, match="three ascending numbers"):
        coco_scores.score({}, one_image({}), max_detections=limits)


def test_memory_dataset_is_a_coco_dataset() -> None:
    """The test's dataset keeps to the protocol."""
    assert isinstance(one_image({}), CocoTruth)
