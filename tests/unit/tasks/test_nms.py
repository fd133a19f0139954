"""Suppression against a plain restatement of the rule, one pair of boxes at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.nms import class_nms
from tasks.protocols import Array


def _greedy(boxes: Array, scores: Array, labels: Array, threshold: float, epsilon: float) -> list[int]:
    """Return what stays, by the definition; exact for the small whole numbers that the tests use."""
    kept: list[int] = []
    for candidate in sorted(range(len(scores)), key=lambda index: (-scores[index], index)):
        better = [index for index in kept if labels[index] == labels[candidate]]
        if all(_overlap(boxes[index], boxes[candidate], epsilon) <= threshold for index in better):
            kept.append(candidate)
    return kept


def _overlap(one: Array, other: Array, epsilon: float) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (one, other)]
    union = float(sum(areas)) - width * height + epsilon
    return width * height / union if union else 0.0


_CASES = st.lists(
    st.tuples(
        st.tuples(*[st.integers(0, 12)] * 4),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    max_size=40,
)


def _arrays(case: list[tuple[tuple[int, ...], int, int]]) -> tuple[Array, Array, Array]:
    boxes = np.array([corners for corners, _, _ in case], dtype=np.float32).reshape(-1, 4)
    scores = np.array([score / 8 for _, score, _ in case], dtype=np.float32)
    return boxes, scores, np.array([label for _, _, label in case], dtype=np.int64)


@given(case=_CASES, threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]), epsilon=st.sampled_from([0.0, 0.5]))
def test_what_stays_is_what_the_definition_keeps(
    case: list[tuple[tuple[int, ...], int, int]], threshold: float, epsilon: float
) -> None:
    """Equal scores, boxes inside out, boxes without area and exact thresholds included."""
    boxes, scores, labels = _arrays(case)
    kept = class_nms(boxes, scores, labels, iou_threshold=threshold, epsilon=epsilon)
    assert kept.dtype == np.int64
    assert kept.tolist() == _greedy(boxes, scores, labels, threshold, epsilon)


@given(case=_CASES, most=st.integers(0, 12))
def test_a_limit_keeps_the_best_of_all(case: list[tuple[tuple[int, ...], int, int]], most: int) -> None:
    """Stopping early returns the head of the full answer."""
    arrays = _arrays(case)
    everything = class_nms(*arrays, iou_threshold=0.25)
    assert class_nms(*arrays, iou_threshold=0.25, most=most).tolist() == everything[:most].tolist()


def test_overlap_of_exactly_the_threshold_stays() -> None:
    """Two boxes of 3 x 1 that share 2 x 1 overlap by one half; the epsilon pushes them below it."""
    boxes = np.array([[0, 0, 3, 1], [1, 0, 4, 1], [0, 0, 3, 1]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    labels = np.zeros(3, dtype=np.int64)
    assert class_nms(boxes, scores, labels, iou_threshold=0.5).tolist() == [0, 1]
    assert class_nms(boxes, scores, labels, iou_threshold=0.49).tolist() == [0]
    assert class_nms(boxes, scores, labels, iou_threshold=0.49, epsilon=0.5).tolist() == [0, 1]


def test_a_removed_box_removes_nobody() -> None:
    """Greedy: the second goes because of the first, so the third stays although it overlaps the second."""
    boxes = np.array([[0, 0, 4, 1], [2, 0, 6, 1], [4, 0, 8, 1]], dtype=np.float32)
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    kept = class_nms(boxes, scores, np.zeros(3, dtype=np.int64), iou_threshold=0.3)
    assert kept.tolist() == [0, 2]


@pytest.mark.parametrize("most", [None, 5])
def test_nothing_in_nothing_out(most: int | None) -> None:
    """A picture without candidates is ordinary."""
    kept = class_nms(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), iou_threshold=0.5, most=most
    )
    assert kept.shape == (0,)
    assert kept.dtype == np.int64


def test_thousands_of_boxes_in_ninety_classes_agree_with_the_definition() -> None:
    """The size that a detector hands over: 1,500 candidates, with ties in the scores."""
    random = np.random.default_rng(7)
    centres, sides = random.integers(0, 400, (1500, 2)), random.integers(2, 200, (1500, 2))
    boxes = np.concatenate([centres, centres + sides], axis=1).astype(np.float32)
    scores = random.integers(1, 64, 1500).astype(np.float32) / 64
    labels = random.integers(0, 90, 1500)
    kept = class_nms(boxes, scores, labels, iou_threshold=0.45)
    assert kept.tolist() == _greedy(boxes.astype(np.float64), scores, labels, 0.45, 0.0)
