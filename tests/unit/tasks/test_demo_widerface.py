"""The synthetic WIDER FACE set is one, the same for a seed, and has what the rules care about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npuq.errors import InvalidRequestError
from tasks import datasets, demo_widerface, widerface_scores
from tasks.protocols import WIDER_DIFFICULTIES, Detections, WiderTruth
from tests.services.registered import register_folder


def test_what_is_written_is_read_as_what_was_drawn(tmp_path: Path) -> None:
    """Boxes, what counts, and pictures; a detector that finds every face is perfect."""
    said = demo_widerface.write(tmp_path / "demo", images=9, seed=5)
    ref = register_folder(tmp_path / "demo", tmp_path / "manifest.json", dataset_format="widerface")
    dataset = datasets.open_dataset(ref)
    assert isinstance(dataset, WiderTruth)
    pictures = list(demo_widerface.pictures(9, seed=5))
    by_number = {int(image_id.rsplit("_", 1)[1]): image_id for image_id in dataset.image_ids}
    assert sorted(by_number) == list(range(9))
    found = {}
    for number, image_id in by_number.items():
        read, drawn = dataset.faces(image_id), pictures[number].truth
        np.testing.assert_array_equal(read.boxes, drawn.boxes)
        for difficulty in WIDER_DIFFICULTIES:
            np.testing.assert_array_equal(read.counted[difficulty], drawn.counted[difficulty])
        with Image.open(dataset.image_path(image_id)) as image:
            assert image.size == pictures[number].image.size
        corners = np.concatenate([read.boxes[:, :2], read.boxes[:, :2] + read.boxes[:, 2:] - 1], axis=1)
        ones = np.ones(len(corners))
        found[image_id] = Detections(boxes=corners.astype(np.float32), scores=ones, labels=ones.astype(np.int64))
    assert set(widerface_scores.score(found, dataset).metrics().values()) == {1.0}
    assert said == f"9 images of 4 events with {sum(len(picture.faces) for picture in pictures)} faces"


def test_it_has_what_the_rules_care_about() -> None:
    """All difficulties, faces that count for nothing, pictures without one that counts, boxes within the picture."""
    pictures = list(demo_widerface.pictures(60, seed=0))
    for picture in pictures:
        boxes = picture.truth.boxes
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= picture.image.size).all()
        assert all(128 <= side <= 256 for side in picture.image.size)
    shares = [sum(int(picture.truth.counted[name].sum()) for picture in pictures) for name in WIDER_DIFFICULTIES]
    faces = [face for picture in pictures for face in picture.faces]
    assert 0 < shares[0] < shares[1] < shares[2] < len(faces)
    assert any(face.invalid for face in faces)
    assert any(face.box[2:] == (0, 0) for face in faces)
    assert any(not picture.truth.counted["easy"].any() for picture in pictures)


@pytest.mark.parametrize("seed", range(5))
def test_first_picture_has_a_face_of_each_difficulty(seed: int) -> None:
    """However few are asked for, there is something to score."""
    [picture] = demo_widerface.pictures(1, seed=seed)
    assert all(counted.any() for counted in picture.truth.counted.values())


def test_fewer_pictures_are_the_first_of_more() -> None:
    """A demo may be enlarged without becoming another."""
    few, many = list(demo_widerface.pictures(2, seed=7)), list(demo_widerface.pictures(4, seed=7))
    assert [picture.faces for picture in few] == [picture.faces for picture in many[:2]]


def test_files_are_listed_in_no_order(tmp_path: Path) -> None:
    """As in the official ones: who sorts on one side only gives images the faces of others."""
    demo_widerface.write(tmp_path, images=12, seed=0)
    listed = [sample.image_id for sample in datasets.inspect(tmp_path, "widerface").manifest.samples]
    assert listed != sorted(listed)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """No pictures, or a folder that holds something."""
    with pytest.raises(InvalidRequestError, match="shows nothing"):
        demo_widerface.write(tmp_path, images=0, seed=0)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InvalidRequestError, match="holds something"):
        demo_widerface.write(tmp_path, images=2, seed=0)
