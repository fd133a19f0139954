"""WIDER FACE's average precision: its rules one by one, and random sets against the rules written out."""

import numpy as np
import pytest

from npuq.errors import DatasetError, InvalidRequestError
from tasks import widerface_ap, widerface_scores
from tasks.protocols import WIDER_DIFFICULTIES, ClassScores, Detections
from tasks.widerface_rounding import as_written
from tasks.widerface_scores import WiderScores, score
from tests.unit.tasks import plain_widerface
from tests.unit.tasks.memory_voc import random_voc
from tests.unit.tasks.memory_widerface import MemoryWider, detections, faces, random_detections, random_wider

BOX = (10.0, 10.0, 20.0, 25.0)
FAR = (200.0, 200.0, 20.0, 25.0)
EVERY = "emh"


@pytest.mark.parametrize(("seed", "crowd"), [(0, 270), (1, 9), (2, 20), (3, 0), (4, 9), (5, 30)])
def test_random_sets_score_as_the_rules_written_out_do(seed: int, crowd: int) -> None:
    """With a crowd, faces of no size, images without faces, without any that count, and without detections."""
    dataset = random_wider(seed, crowd=crowd)
    predictions = random_detections(dataset, seed + 100, equal_scores=seed % 2 == 1)
    rows = {image_id: plain_widerface.written(found) for image_id, found in predictions.items()}
    for iou in (0.5, 0.4):
        ours = score(predictions, dataset, iou=iou)
        for difficulty in WIDER_DIFFICULTIES:
            expected = plain_widerface.average_precision(rows, dataset.truth, difficulty, iou=iou)
            assert getattr(ours, difficulty) == pytest.approx(expected, abs=1e-12)
            assert 0.0 < expected < 1.0


def one_image(*rows: tuple[tuple[float, ...], str]) -> MemoryWider:
    return MemoryWider(truth={"0--Parade/a": faces(list(rows))})


def test_second_hit_on_a_face_is_wrong() -> None:
    """Two right of three, the wrong one in the middle."""
    dataset = one_image((BOX, EVERY), (FAR, EVERY))
    found = {"0--Parade/a": detections([(BOX, 0.9), (BOX, 0.8), (FAR, 0.3)])}
    assert score(found, dataset).easy == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_hits_on_faces_that_do_not_count_are_no_proposals() -> None:
    """The first one is right for hard only."""
    dataset = one_image((BOX, "h"), (FAR, EVERY))
    found = {"0--Parade/a": detections([(BOX, 0.9), (BOX, 0.8), (FAR, 0.3)])}
    scores = score(found, dataset)
    assert (scores.easy, scores.medium) == (1.0, 1.0)
    assert scores.hard == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_face_is_found_at_exactly_the_threshold() -> None:
    """Also when the last bit of a division decides: 11 of 22 pixels, with "+1" in each width."""
    dataset = one_image(((0.0, 0.0, 21.0, 9.0), EVERY))
    found = {"0--Parade/a": detections([((0.0, 0.0, 10.0, 9.0), 0.9), (FAR, 0.1)])}
    assert score(found, dataset, iou=0.5).easy == 1.0
    assert score(found, dataset, iou=np.nextafter(0.5, 1)).easy == 0.0


def test_image_without_faces_is_not_looked_at() -> None:
    """The published tools pass over it; scores are spread over its detections all the same."""
    dataset = MemoryWider(truth={"a": faces([(BOX, EVERY)]), "b": faces([])})
    found = {"a": detections([(BOX, 0.5), (FAR, 0.4)]), "b": detections([(BOX, 0.9), (FAR, 0.1)])}
    assert score(found, dataset).easy == 1.0


def test_missed_faces_of_images_without_detections_are_missed() -> None:
    """They add to what there is to find."""
    dataset = MemoryWider(truth={"a": faces([(BOX, EVERY)]), "b": faces([(BOX, EVERY)])})
    found = {"a": detections([(BOX, 0.5), (FAR, 0.4)]), "b": detections([])}
    assert score(found, dataset).easy == 0.5


def test_no_detection_at_all_finds_nothing() -> None:
    """Zero, and no warning on the way."""
    assert score({"0--Parade/a": detections([])}, one_image((BOX, EVERY))) == WiderScores(easy=0, medium=0, hard=0)


def test_scores_that_are_all_equal_are_numbers() -> None:
    """The published tools divide zero by zero here."""
    found = {"0--Parade/a": detections([(BOX, 0.7), (FAR, 0.7)])}
    assert score(found, one_image((BOX, EVERY))).easy == 0.5


def test_order_within_an_image_is_by_score() -> None:
    """However it comes; equal scores stay as they come."""
    dataset = random_wider(3, crowd=9)
    predictions = random_detections(dataset, 4)
    backwards = {
        image_id: Detections(boxes=found.boxes[::-1], scores=found.scores[::-1], labels=found.labels[::-1])
        for image_id, found in reversed(predictions.items())
    }
    assert score(backwards, dataset) == score(predictions, dataset)


@pytest.mark.parametrize(("width", "found"), [(9.96, 1.0), (9.94, 0.0)])
def test_what_is_scored_is_what_the_text_files_hold(width: float, found: float) -> None:
    """10.0 pixels are half of the face, and what rounds to them is, too."""
    dataset = one_image(((0.0, 0.0, 21.0, 9.0), EVERY))
    assert score({"0--Parade/a": detections([((0.0, 0.0, width, 9.0), 0.9)])}, dataset).easy == found


def test_boxes_that_are_no_numbers_overlap_nothing() -> None:
    """A network without training may say so; that is a wrong detection."""
    found = detections([(BOX, 0.9), (FAR, 0.8), (BOX, 0.7), (BOX, 0.2)])
    found.boxes[0], found.boxes[1] = np.nan, np.inf
    found.boxes[2, 2:] = 3e38
    dataset = one_image((BOX, EVERY))
    assert score({"0--Parade/a": found}, dataset).easy == pytest.approx(0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_score_that_is_no_number_names_its_image(value: float) -> None:
    """It would spoil the scores of all images."""
    found = {"0--Parade/a": detections([(BOX, 0.9), (FAR, value)])}
    with pytest.raises(DatasetError, match=r"0--Parade/a has the score -?(nan|inf), which is no number"):
        score(found, one_image((BOX, EVERY)))


def test_difficulty_without_a_face_has_no_score() -> None:
    """Zero would be a wrong answer, and the others are known; how many faces there were is among the facts."""
    found, dataset = {"0--Parade/a": detections([(BOX, 0.9)])}, one_image((BOX, "h"))
    assert score(found, dataset).metrics() == {"AP_hard": 1.0}
    facts = widerface_scores.facts(found, dataset)
    assert facts["faces"] == {"easy": 0, "medium": 0, "hard": 1}
    assert facts["iou"]["0.4"] == {"AP_hard": 1.0}
    with pytest.raises(DatasetError, match=r"None of the 1 images .* for any difficulty: there is nothing to score"):
        score(found, one_image((BOX, "")))


def test_predictions_and_dataset_must_belong_together() -> None:
    """An image too few, one too many, scores instead of boxes, a dataset of another kind, an overlap that is none."""
    dataset = MemoryWider(truth={"e/a": faces([(BOX, EVERY)]), "e/b": faces([])})
    with pytest.raises(DatasetError, match=r"1 of 2 images without a prediction \(e/b\)"):
        score({"e/a": detections([])}, dataset)
    with pytest.raises(DatasetError, match=r"1 predictions without an image \(e/c\)"):
        score({name: detections([]) for name in ("e/a", "e/b", "e/c")}, dataset)
    with pytest.raises(DatasetError, match="e/b is no detections"):
        score({"e/a": detections([]), "e/b": ClassScores(scores=np.zeros(3))}, dataset)
    with pytest.raises(DatasetError, match="format 'widerface'"):
        score({}, random_voc(1))
    with pytest.raises(InvalidRequestError, match="not at 0"):
        score({"e/a": detections([]), "e/b": detections([])}, dataset, iou=0)


def test_facts_are_the_counts_and_both_overlaps() -> None:
    """The official 0.5 and the 0.4 of the ports, beside what there was to find."""
    dataset = random_wider(1, crowd=9)
    predictions = random_detections(dataset, 2)
    facts = widerface_scores.facts(predictions, dataset)
    assert facts["iou"]["0.5"] == score(predictions, dataset).metrics()
    assert facts["iou"]["0.4"] == score(predictions, dataset, iou=0.4).metrics()
    assert list(facts["iou"]["0.5"]) == ["AP_easy", "AP_medium", "AP_hard"]
    assert facts["faces"]["hard"] == sum(int(true.counted["hard"].sum()) for true in dataset.truth.values())
    assert facts["detections"] == sum(len(found.scores) for found in predictions.values())


def test_curve_ends_with_everything() -> None:
    """At the last threshold, 0, every detection is a proposal."""
    dataset = one_image((BOX, EVERY), (FAR, EVERY))
    found = detections([(BOX, 0.9), (BOX, 0.5)])
    matches = widerface_ap.match([as_written(found)], list(dataset.truth.values()))
    recall, precision = matches.curve("hard", iou=0.5)
    assert (recall.shape, recall[-1], precision[-1]) == ((1000,), 0.5, 0.5)
    assert (recall[0], precision[0]) == (0.5, 1.0)
