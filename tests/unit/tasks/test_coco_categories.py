"""COCO's numbering, in which ten ids between 1 and 90 belong to nothing."""

import numpy as np
import pytest

from tasks import coco_categories


def test_there_are_80_categories_with_the_ten_known_holes() -> None:
    """The ids are those of instances_val2017.json, in order, with a name each."""
    assert len(coco_categories.CATEGORY_IDS) == len(set(coco_categories.CATEGORY_NAMES)) == 80
    assert sorted(coco_categories.CATEGORY_IDS) == list(coco_categories.CATEGORY_IDS)
    holes = set(range(1, 91)) - set(coco_categories.CATEGORY_IDS)
    assert holes == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


@pytest.mark.parametrize(
    ("index", "category_id", "name"),
    [(0, 1, "person"), (10, 11, "fire hydrant"), (11, 13, "stop sign"), (56, 62, "chair"), (79, 90, "toothbrush")],
)
def test_class_of_an_80_class_network_is_mapped_over_the_holes(index: int, category_id: int, name: str) -> None:
    """The shift by one ends at the first hole."""
    assert coco_categories.CATEGORY_IDS[index] == category_id
    assert coco_categories.CATEGORIES[category_id] == coco_categories.CATEGORY_NAMES[index] == name
    assert coco_categories.category_ids_of(np.array([index], dtype=np.int32)).tolist() == [category_id]


def test_mapping_keeps_the_shape_and_gives_int64() -> None:
    """An image without detections stays one."""
    ids = coco_categories.category_ids_of(np.zeros(0, dtype=np.int64))
    assert (ids.shape, ids.dtype) == ((0,), np.dtype("int64"))


@pytest.mark.parametrize("index", [-1, 80])
def test_class_outside_the_80_is_refused(index: int) -> None:
    """A wrong class must not silently become another category."""
    with pytest.raises(IndexError):
        coco_categories.category_ids_of(np.array([3, index]))
