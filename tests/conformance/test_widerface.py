"""WIDER FACE's evaluation against the numbers that two independent evaluators themselves produced."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tasks import widerface_ap, widerface_scores, widerface_truth
from tasks.protocols import WIDER_DIFFICULTIES, Detections, WiderFaces
from tasks.widerface_rounding import WrittenFaces, as_written
from tests.goldens import trees
from tests.unit.tasks.memory_widerface import MemoryWider

PUBLISHED_TOLERANCE: Final = 1e-9


@pytest.fixture(params=["compact", "whole"], scope="module")
def golden(request: pytest.FixtureRequest) -> Path:
    """Return the folder of truth, predictions and expected metrics."""
    folder = (trees.COMPACT if request.param == "compact" else trees.whole_tree()) / "pyramidbox" / "evaluation"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder


@pytest.fixture(scope="module")
def truth(golden: Path) -> dict[str, WiderFaces]:
    """Return the faces of all images."""
    folder = golden / "ground_truth"
    return widerface_truth.parse({name: (folder / name).read_bytes() for name in widerface_truth.FILES})


@pytest.fixture(scope="module")
def expected(golden: Path) -> Any:
    """Return what the evaluators said."""
    return json.loads((golden / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def predictions(golden: Path) -> dict[str, Detections]:
    """Return detections that are written as the golden text files have them."""
    return {
        path.relative_to(golden / "predictions").with_suffix("").as_posix(): read_detections(path)
        for path in sorted((golden / "predictions").rglob("*.txt"))
    }


def read_detections(path: Path) -> Detections:
    """Read an image's text file: the name of the image, how many faces, x y width height score of each."""
    _, count, *rows = path.read_text(encoding="utf-8").splitlines()
    values = np.array([[float(part) for part in row.split()] for row in rows]).reshape(-1, 5)
    assert len(values) == int(count)
    ends = values[:, :2] + values[:, 2:4] - 1
    return Detections(
        boxes=np.concatenate([values[:, :2], ends], axis=1).astype(np.float32),
        scores=values[:, 4].astype(np.float32),
        labels=np.ones(len(values), dtype=np.int64),
    )


def test_truth_has_the_counts_of_the_files(truth: Mapping[str, WiderFaces], expected: Any) -> None:
    """Images, faces, and those that count."""
    counts = expected["dataset"]
    assert len(truth) == counts["images"]
    assert len({image_id.split("/")[0] for image_id in truth}) == counts["events"]
    assert sum(len(of_image.boxes) for of_image in truth.values()) == counts["faces"]
    for difficulty in WIDER_DIFFICULTIES:
        of_images = [int(of_image.counted[difficulty].sum()) for of_image in truth.values()]
        assert sum(of_images) == counts["kept"][difficulty]
        assert of_images.count(0) == counts["images_without_kept_faces"][difficulty]


def test_rounding_is_that_of_the_published_files(golden: Path, predictions: Mapping[str, Detections]) -> None:
    """Digit for digit."""
    for image_id, found in predictions.items():
        written = as_written(found)
        rows = np.column_stack([written.boxes, written.scores])
        text = (golden / "predictions" / f"{image_id}.txt").read_text(encoding="utf-8")
        assert ["{:.1f} {:.1f} {:.1f} {:.1f} {:.3f}".format(*row) for row in rows] == text.splitlines()[2:]


@pytest.mark.parametrize("evaluator", ["wider", "centerface"])
@pytest.mark.parametrize("iou", [0.5, 0.4])
def test_average_precision_is_that_of_both_evaluators(
    evaluator: str,
    iou: float,
    truth: Mapping[str, WiderFaces],
    predictions: Mapping[str, Detections],
    expected: Any,
) -> None:
    """Easy, medium and hard."""
    scores = widerface_scores.score(predictions, MemoryWider(truth=truth), iou=iou)
    for difficulty, value in expected["metrics"][f"{evaluator}_iou{iou}"].items():
        assert getattr(scores, difficulty) == pytest.approx(value, abs=PUBLISHED_TOLERANCE)


def test_curves_run_through_the_published_points(
    truth: Mapping[str, WiderFaces], predictions: Mapping[str, Detections], expected: Any
) -> None:
    """Recall and precision at some of the thousand thresholds."""
    written: list[WrittenFaces] = [as_written(predictions[image_id]) for image_id in truth]
    matches = widerface_ap.match(written, list(truth.values()))
    points = expected["curve_points"]
    at = np.array(points["t"]) - 1
    for difficulty in WIDER_DIFFICULTIES:
        recall, precision = matches.curve(difficulty, iou=0.5)
        ours = np.column_stack([recall[at], precision[at]])
        np.testing.assert_allclose(ours, points[difficulty], rtol=0, atol=PUBLISHED_TOLERANCE)
