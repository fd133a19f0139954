"""The synthetic VOC set is a VOC dataset, the same for a seed, and has what VOC's rules care about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npuq.errors import InvalidRequestError
from tasks import datasets, demo_voc
from tasks.protocols import VocTruth
from tests.services.registered import register_folder


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_is_written_is_read_as_what_was_drawn(tmp_path: Path) -> None:
    """Corners from 1, names, difficult marks and the order of the list survive the way through the files."""
    said = demo_voc.write(tmp_path / "demo", images=24, seed=5)
    dataset = datasets.open_dataset(
        register_folder(tmp_path / "demo", tmp_path / "manifest.json", dataset_format="voc")
    )
    assert isinstance(dataset, VocTruth)
    pictures = list(demo_voc.pictures(24, seed=5))
    assert len(dataset.image_ids) == len(pictures)
    for image_id, picture in zip(dataset.image_ids, pictures, strict=True):
        read, drawn = dataset.objects(image_id), picture.truth
        np.testing.assert_array_equal(read.boxes, drawn.boxes)
        np.testing.assert_array_equal(read.labels, drawn.labels)
        np.testing.assert_array_equal(read.difficult, drawn.difficult)
        with Image.open(dataset.image_path(image_id)) as image:
            assert image.size == picture.image.size
    assert said.startswith(f"24 images with {sum(len(picture.objects) for picture in pictures)} objects of 4 classes")


def test_it_has_what_the_rules_care_about() -> None:
    """Pictures without objects, difficult objects, every class, boxes within the picture, more than one aspect."""
    pictures = list(demo_voc.pictures(80, seed=0))
    objects = [item for picture in pictures for item in picture.objects]
    assert any(not picture.objects for picture in pictures)
    assert 0 < sum(item.difficult for item in objects) < len(objects) / 4
    assert {item.label for item in objects} == set(demo_voc.LABELS)
    assert len({picture.image.size for picture in pictures}) > 40
    for picture in pictures:
        for x1, y1, x2, y2 in (item.box for item in picture.objects):
            assert 0 <= x1 < x2 < picture.image.width
            assert 0 <= y1 < y2 < picture.image.height


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    """And other seeds give others."""
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        demo_voc.write(tmp_path / name, images=3, seed=seed)
    assert files(tmp_path / "one") == files(tmp_path / "same")
    assert files(tmp_path / "one") != files(tmp_path / "other")


def test_nothing_is_overwritten_and_nothing_is_made_of_nothing(tmp_path: Path) -> None:
    """A folder that holds something stays as it is."""
    (tmp_path / "mine.txt").write_text("mine", encoding="ascii")
    with pytest.raises(InvalidRequestError, match="holds something"):
        demo_voc.write(tmp_path, images=3, seed=0)
    with pytest.raises(InvalidRequestError, match="0 images"):
        demo_voc.write(tmp_path / "new", images=0, seed=0)
    assert files(tmp_path) == {"mine.txt": b"mine"}
