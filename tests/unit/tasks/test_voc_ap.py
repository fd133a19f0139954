"""Average precision against a plain restatement of VOC's rules, one detection at a time in float64."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.protocols import Array, Detections, VocObjects
from tasks.voc_ap import ApRule, match

CLASSES = 3
Found = Sequence[tuple[tuple[int, ...], int, int]]  # box, label, score
True_ = Sequence[tuple[tuple[int, ...], int, bool]]  # box, label, difficult

_BOX = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 8), st.integers(1, 8)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
_IMAGES = st.lists(
    st.tuples(
        st.lists(st.tuples(_BOX, st.integers(1, CLASSES), st.integers(1, 9)), max_size=12),
        st.lists(st.tuples(_BOX, st.integers(1, CLASSES), st.booleans()), max_size=5),
    ),
    min_size=1,
    max_size=5,
)


def detections(found: Found) -> Detections:
    """Return what a recipe would: best first."""
    ordered = sorted(found, key=lambda row: -row[2])
    return Detections(
        boxes=np.array([box for box, _, _ in ordered], dtype=np.float32).reshape(-1, 4),
        scores=np.array([score / 16 for _, _, score in ordered], dtype=np.float32),
        labels=np.array([label for _, label, _ in ordered], dtype=np.int64),
    )


def objects(true: True_) -> VocObjects:
    """Return the truth of an image."""
    return VocObjects(
        boxes=np.array([box for box, _, _ in true], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _ in true], dtype=np.int64),
        difficult=np.array([difficult for _, _, difficult in true], dtype=bool),
    )


def average_precisions(
    images: Sequence[tuple[Found, True_]], *, iou_threshold: float, rule: ApRule
) -> tuple[list[float], Mapping[str, Detections]]:
    """Return what npuq makes of it."""
    found = {f"{number}": detections(of_image) for number, (of_image, _) in enumerate(images)}
    truth = {f"{number}": objects(of_image) for number, (_, of_image) in enumerate(images)}
    matches = match(found, truth, classes=CLASSES)
    return [of_class.average_precision(iou_threshold=iou_threshold, rule=rule) for of_class in matches], found


def overlap(one: Array, other: Array) -> float:
    """Return intersection over union of two boxes of whole pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = float(max(width, 0) * max(height, 0))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return shared / (sum(areas) - shared)


def judged(found: Mapping[str, Detections], truth: Sequence[True_], label: int, iou_threshold: float) -> list[bool]:
    """Return right or wrong for each detection that counts, best first."""
    rows = [
        (float(score), int(image), box)
        for image, of_image in found.items()
        for box, score, own in zip(of_image.boxes, of_image.scores, of_image.labels, strict=True)
        if own == label
    ]
    taken: set[tuple[int, int]] = set()
    verdicts = []
    for _, image, box in sorted(rows, key=lambda row: -row[0]):
        rivals = [(np.array(other), difficult) for other, own, difficult in truth[image] if own == label]
        overlaps = [overlap(box, other) for other, _ in rivals]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] > iou_threshold
        if hit and rivals[best][1]:
            continue
        verdicts.append(hit and (image, best) not in taken)
        taken |= {(image, best)} if hit else set()
    return verdicts


def average(verdicts: Sequence[bool], to_find: int, rule: ApRule) -> float:
    """Return the average precision by its definition."""
    if to_find == 0:
        return math.nan
    curve = [
        (sum(verdicts[: rank + 1]) / to_find, sum(verdicts[: rank + 1]) / (rank + 1)) for rank in range(len(verdicts))
    ]
    best = [max(precision for _, precision in curve[rank:]) for rank in range(len(curve))]
    if rule is ApRule.AREA:
        reached = [0.0, *(recall for recall, _ in curve)]
        return sum((reached[rank + 1] - reached[rank]) * best[rank] for rank in range(len(curve)))
    return sum(
        max([precision for recall, precision in curve if recall >= 0.1 * tenth], default=0.0) / 11
        for tenth in range(11)
    )


@given(images=_IMAGES, iou_threshold=st.sampled_from([0.45, 0.5]), rule=st.sampled_from(list(ApRule)))
def test_average_precision_is_what_the_definition_says(
    images: list[tuple[Found, True_]], iou_threshold: float, rule: ApRule
) -> None:
    """Difficult objects, images without objects or detections, doubled hits and equal scores included."""
    ours, found = average_precisions(images, iou_threshold=iou_threshold, rule=rule)
    truth = [of_image for _, of_image in images]
    for label, value in enumerate(ours, start=1):
        to_find = sum(own == label and not difficult for of_image in truth for _, own, difficult in of_image)
        expected = average(judged(found, truth, label, iou_threshold), to_find, rule)
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


BOX, FAR = (0, 0, 10, 10), (50, 50, 60, 60)


@pytest.mark.parametrize("rule", ApRule)
@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        pytest.param([(BOX, 1, 9)], [(BOX, 1, False)], 1.0, id="found"),
        pytest.param([], [(BOX, 1, False)], 0.0, id="nothing found"),
        pytest.param([(BOX, 1, 9)], [], math.nan, id="nothing to find"),
        pytest.param([(BOX, 1, 9)], [(BOX, 1, True)], math.nan, id="nothing but difficult to find"),
        pytest.param([(BOX, 2, 9)], [(BOX, 1, False)], 0.0, id="another class"),
        pytest.param([(BOX, 1, 9), (BOX, 1, 8)], [(BOX, 1, False), (FAR, 1, True)], 1.0, id="second hit comes late"),
        pytest.param([(FAR, 1, 9), (BOX, 1, 8)], [(BOX, 1, False)], 0.5, id="wrong one first"),
        pytest.param(
            [(FAR, 1, 9), (BOX, 1, 8)], [(BOX, 1, False), (FAR, 1, True)], 1.0, id="difficult one first does not count"
        ),
    ],
)
def test_edges(found: Found, true: True_, expected: float, rule: ApRule) -> None:
    """Where the guide's script divides by zero or stops, and where one detection decides."""
    (value, *_), _ = average_precisions([(found, true)], iou_threshold=0.5, rule=rule)
    assert value == pytest.approx(expected, nan_ok=True)


def test_overlap_of_exactly_the_threshold_is_no_hit() -> None:
    """VOC's text says more than 50 %, and so does the guide's script."""
    found, true = [((0, 0, 10, 20), 1, 9)], [(BOX, 1, False)]
    assert average_precisions([(found, true)], iou_threshold=0.5, rule=ApRule.AREA)[0][0] == 0
    assert average_precisions([(found, true)], iou_threshold=0.45, rule=ApRule.AREA)[0][0] == 1


def test_recall_of_three_tenths_does_not_reach_the_fourth_point() -> None:
    """As in the scripts: their third tenth is 0.30000000000000004, so 3 of 10 found reach three points, not four."""
    true = [((20 * row, 0, 20 * row + 10, 10), 1, False) for row in range(10)]
    found = [(box, 1, 9) for box, _, _ in true[:3]]
    (value, *_), _ = average_precisions([(found, true)], iou_threshold=0.5, rule=ApRule.ELEVEN_POINTS)
    assert value == pytest.approx(3 / 11)


def test_box_that_is_not_a_number_is_wrong() -> None:
    """A chip that overflows gets no hit and hides no other."""
    found = {
        "a": Detections(
            boxes=np.array([[np.nan, 0, 10, 10], [0, 0, np.inf, 10], BOX], dtype=np.float32),
            scores=np.array([0.9, 0.8, 0.7], dtype=np.float32),
            labels=np.ones(3, dtype=np.int64),
        )
    }
    (only,) = match(found, {"a": objects([(BOX, 1, False)])}, classes=1)
    assert only.average_precision(iou_threshold=0.5, rule=ApRule.AREA) == pytest.approx(1 / 3)
