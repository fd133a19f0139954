"""Faces in the text form of the published chain: the numbers are those that Python itself would write and read."""

import numpy as np
import pytest

from tasks.protocols import Array, Detections
from tasks.widerface_rounding import as_written

# Exact ties (0.25, 0.0625), and decimals that lie a little beside the tie that they look like.
HARD_TO_ROUND = [0.05, 0.15, 0.25, 0.35, 0.45, 2.675, 1.005, 0.0625, 1023.95, -0.04, -0.25, -0.35, 0.0005, 0.0015]


def detections(boxes: Array, scores: Array) -> Detections:
    return Detections(boxes=boxes, scores=scores, labels=np.ones(len(scores), dtype=np.int64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_that_of_text(dtype: type) -> None:
    """To the last bit, also where multiplying by ten would make a tie of what is none."""
    generator = np.random.default_rng(0)
    numbers = np.concatenate([HARD_TO_ROUND, generator.uniform(-50, 2000, 3000), generator.integers(0, 9999, 986) / 20])
    boxes: Array = numbers.astype(dtype).reshape(-1, 4)
    scores: Array = np.resize(np.concatenate([HARD_TO_ROUND, generator.random(900)]), len(boxes)).astype(dtype)
    written = as_written(detections(boxes, scores))
    rows = boxes.astype(np.float64).tolist()
    expected = [[float(f"{number:.1f}") for number in (x1, y1, x2 - x1 + 1, y2 - y1 + 1)] for x1, y1, x2, y2 in rows]
    np.testing.assert_array_equal(written.boxes, expected)
    np.testing.assert_array_equal(written.scores, [float(f"{score:.3f}") for score in scores.astype(float).tolist()])


def test_image_without_detections_has_rows_of_the_right_width() -> None:
    """None of them."""
    written = as_written(detections(np.empty((0, 4), np.float32), np.empty(0, np.float32)))
    assert (written.boxes.shape, written.scores.shape) == ((0, 4), (0,))
