"""The synthetic COCO set is one: it opens as any other, and its boxes are where the shapes are."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFilter

from npuq.errors import InvalidRequestError
from tasks import datasets, demo_coco, demo_shapes
from tasks.coco_categories import CATEGORIES
from tasks.datasets_coco import CocoDataset
from tests.services.registered import register_folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_opens_as_a_coco_dataset(tmp_path: Path) -> None:
    """80 categories, four of them used; pictures without objects; areas unlike the boxes."""
    said = demo_coco.write(tmp_path / "shapes", images=30, seed=3)
    dataset = datasets.open_dataset(register_folder(tmp_path / "shapes", tmp_path / "m.json", dataset_format="coco"))
    assert isinstance(dataset, CocoDataset)
    truth = dataset.instances
    assert f"30 images with {len(truth['annotations'])} objects of 4 categories" in said
    assert len(dataset.image_ids) == 30
    assert {entry["id"]: entry["name"] for entry in truth["categories"]} == CATEGORIES
    assert {entry["category_id"] for entry in truth["annotations"]} == set(demo_coco.CATEGORY_IDS)
    assert len({entry["image_id"] for entry in truth["annotations"]}) < 30
    shares = {round(entry["area"] / (entry["bbox"][2] * entry["bbox"][3]), 1) for entry in truth["annotations"]}
    assert shares == {0.5, 0.8, 1.0}


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    """And more pictures begin with the same ones."""
    for name, images, seed in (("one", 4, 1), ("two", 4, 1), ("more", 6, 1), ("other", 4, 2)):
        demo_coco.write(tmp_path / name, images=images, seed=seed)
    one, two, more, other = (contents(tmp_path / name) for name in ("one", "two", "more", "other"))
    assert one == two
    pictures = [name for name in one if name.endswith(".jpg")]
    assert all(one[name] == more[name] != other[name] for name in pictures)
    assert (
        json.loads(more["annotations/instances_val2017.json"])["images"][:4]
        == json.loads(one["annotations/instances_val2017.json"])["images"]
    )


def test_shapes_are_where_their_boxes_say() -> None:
    """A shape is more colourful than the ground; inside the picture, apart from each other, tight in its box."""
    seen = set()
    for scene in demo_shapes.scenes(40, seed=5):
        calm = scene.image.filter(ImageFilter.BoxBlur(2))
        pixels = np.asarray(calm.convert("HSV"), dtype=np.float32)[..., 1]
        outside = np.ones(pixels.shape, dtype=bool)
        for drawn in scene.shapes:
            x1, y1, x2, y2 = drawn.box
            assert 0 <= x1 < x2 <= scene.image.width
            assert 0 <= y1 < y2 <= scene.image.height
            area = (slice(int(y1), int(np.ceil(y2))), slice(int(x1), int(np.ceil(x2))))
            outside[max(int(y1) - 3, 0) : int(y2) + 4, max(int(x1) - 3, 0) : int(x2) + 4] = False
            vivid = pixels[area] > 140
            assert vivid.mean() == pytest.approx(drawn.area / ((x2 - x1) * (y2 - y1)), abs=0.12)
            assert vivid.any(axis=0).mean() > 0.8
            assert vivid.any(axis=1).mean() > 0.8
            seen.add(drawn.look)
        assert (pixels[outside] > 140).mean() < 0.05
    assert seen == set(range(len(demo_shapes.LOOKS)))


def test_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    """Nothing of a person's is written over."""
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InvalidRequestError, match="holds something"):
        demo_coco.write(tmp_path, images=2, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_picture_is_no_demo(tmp_path: Path) -> None:
    """At least one is wanted."""
    with pytest.raises(InvalidRequestError, match="1 or more"):
        demo_coco.write(tmp_path / "none", images=0, seed=0)
