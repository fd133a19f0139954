"""Ranks and counts, at the edges where sorting goes wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuq.errors import DatasetError
from tasks import top_k
from tests.unit.tasks.memory_coco import random_coco


@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=20).flatmap(
        lambda values: st.tuples(st.just(values), st.integers(0, len(values) - 1))
    )
)
def test_rank_is_the_place_in_a_stable_sort(values: tuple[list[int], int]) -> None:
    """Equal scores rank by class id, as a stable sort of the negated scores has them."""
    scores, label = np.array(values[0], dtype=np.float32), values[1]
    order = np.argsort(-scores, kind="stable").tolist()
    assert top_k.rank_of(scores, label) == order.index(label)


@pytest.mark.parametrize(("offset", "scale"), [(1e6, 1.0), (0.0, 1e-30), (-1e9, 1e3)])
def test_offset_and_scale_do_not_matter(offset: float, scale: float) -> None:
    """Only the order of scores counts."""
    scores = np.array([0.25, 3.0, 1.0]) * scale + offset
    assert [top_k.rank_of(scores, label) for label in range(3)] == [2, 0, 1]


@pytest.mark.parametrize("scores", [[np.nan, np.nan], [np.nan, 1.0]])
def test_score_that_is_not_a_number_is_never_a_hit(scores: list[float]) -> None:
    """A chip that returns rubbish does not get full marks."""
    assert top_k.rank_of(np.array(scores), 0) == 2


def test_background_class_shifts_the_labels() -> None:
    """With 1001 outputs, class 0 is the background's, and the label 7 is output 8."""
    scores = np.zeros(1001)
    scores[8] = 1
    assert top_k.count([scores], [7]).correct_at_rank == (1, 1, 1, 1, 1)
    assert top_k.count([scores[:1000]], [7]).correct_at_rank[0] == 0


def test_counts_accumulate_over_ranks() -> None:
    """Right at rank three counts for the best three, four and five."""
    scores = np.arange(10.0)
    counts = top_k.count([scores, scores, scores], [9, 7, 0])
    assert counts.correct_at_rank == (1, 1, 2, 2, 2)
    assert counts.percent(1) == pytest.approx(100 / 3)


def test_report_has_the_guides_strings() -> None:
    """Two decimals at the most, and no trailing zeros but one."""
    counts = top_k.TopKCounts(images=50_000, classes=1000, correct_at_rank=(34_763, 40_000, 42_501, 43_999, 44_500))
    values = {item["key"]: item["value"] for item in counts.guide_report()["value"]}
    assert values == {
        "Number of images": "50000",
        "Number of classes": "1000",
        "Top1 accuracy": "69.53%",
        "Top2 accuracy": "80.0%",
        "Top3 accuracy": "85.0%",
        "Top4 accuracy": "88.0%",
        "Top5 accuracy": "89.0%",
    }


def test_dataset_without_labels_is_refused() -> None:
    """A classifier cannot be scored against boxes."""
    with pytest.raises(DatasetError, match="'memory' \\(coco\\) has no class labels"):
        top_k.score({}, random_coco(0))
