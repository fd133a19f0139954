"""COCO datasets are what their annotation file lists, and what is missing or contradicts itself is said exactly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from npuq.errors import DatasetChangedError, DatasetError
from tasks import coco_instances, datasets, datasets_coco
from tasks.protocols import CocoTruth
from tests.services.registered import register_folder

Document = dict[str, Any]
NAMES = ["000000000139", "000000000285", "000000581781"]


def document() -> Document:
    """Return three images out of order: two with objects, a crowd among them, and one without."""
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [
            {"id": number, "file_name": f"{number:012d}.jpg", "height": 32, "width": 40}
            for number in (285, 581781, 139)
        ],
        "annotations": [
            annotation(7, 285, category_id=1),
            annotation(0, 139, category_id=90, iscrowd=1),
            annotation(900100285, 285, category_id=13, area=12.5),
        ],
        "categories": [
            {"id": number, "name": name, "supercategory": "thing"}
            for number, name in ((1, "person"), (13, "stop sign"), (44, "bottle"), (90, "toothbrush"))
        ],
    }


def annotation(number: int, image_id: int, **values: Any) -> Document:
    """Return an object of a box of 10 x 20."""
    defaults = {"category_id": 1, "bbox": [1.5, 2, 10, 20], "area": 150.25, "iscrowd": 0, "segmentation": [[1, 2] * 9]}
    return {"id": number, "image_id": image_id, **defaults, **values}


def write(root: Path, content: Document | bytes) -> Path:
    """Write a dataset's folder; the files of its three images are as long as their names."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "val2017").mkdir(exist_ok=True)
    as_bytes = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / "annotations" / "instances_val2017.json").write_bytes(as_bytes)
    for name in NAMES:
        (root / "val2017" / f"{name}.jpg").write_bytes(name.encode())
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a good folder."""
    return write(tmp_path / "coco", document())


def opened(root: Path, tmp_path: Path, limit: int | None = None) -> datasets_coco.CocoDataset:
    ref = register_folder(root, tmp_path / "manifest.json", dataset_format="coco")
    dataset = datasets.open_dataset(ref, limit=limit)
    assert isinstance(dataset, datasets_coco.CocoDataset)
    assert isinstance(dataset, CocoTruth)
    return dataset


def test_images_come_in_the_order_of_their_numbers(root: Path, tmp_path: Path) -> None:
    """The published loader sorts them; names are the stems."""
    dataset = opened(root, tmp_path)
    assert list(dataset.image_ids) == NAMES
    assert [dataset.coco_image_id(name) for name in NAMES] == [139, 285, 581781]
    assert dataset.image_path(NAMES[0]) == root / "val2017" / "000000000139.jpg"
    assert dataset.registered(NAMES[0]).size_bytes == 12


def test_truth_is_the_files_without_outlines(root: Path, tmp_path: Path) -> None:
    """Scoring needs boxes; images without objects and categories without objects stay."""
    truth = opened(root, tmp_path).instances
    assert [image["id"] for image in truth["images"]] == [285, 581781, 139]
    assert truth["annotations"][2] == {
        "id": 900100285,
        "image_id": 285,
        "category_id": 13,
        "bbox": [1.5, 2, 10, 20],
        "area": 12.5,
        "iscrowd": 0,
    }
    assert [entry["iscrowd"] for entry in truth["annotations"]] == [0, 1, 0]
    assert [category["name"] for category in truth["categories"]] == ["person", "stop sign", "bottle", "toothbrush"]


def test_view_of_the_first_images_has_their_truth_only(root: Path, tmp_path: Path) -> None:
    """A limit changes images and objects, not categories; the whole stays whole."""
    dataset = opened(root, tmp_path)
    view = opened(root, tmp_path, limit=1)
    assert list(view.image_ids) == NAMES[:1]
    assert [entry["id"] for entry in view.instances["annotations"]] == [0]
    assert len(view.instances["categories"]) == 4
    assert len(dataset.instances["annotations"]) == 3
    with pytest.raises(DatasetError, match=NAMES[1]):
        view.coco_image_id(NAMES[1])


def test_other_files_are_no_part_of_it(root: Path, tmp_path: Path) -> None:
    """Images that the annotations do not list shift nothing, before and after registration."""
    (root / "val2017" / "000000000001.jpg").write_bytes(b"a stray image")
    (root / "val2017" / ".DS_Store").write_bytes(b"")
    facts = datasets.inspect(root, "coco")
    assert "2 files that the annotations do not list: .DS_Store, 000000000001.jpg" in facts.notes
    dataset = opened(root, tmp_path)
    assert list(dataset.image_ids) == NAMES
    (root / "val2017" / "000000000002.jpg").write_bytes(b"another")
    assert datasets.verify(dataset.ref) == []
    assert datasets.inspect(root, "coco").digest == dataset.ref.digest


def test_images_without_objects_are_noted(root: Path) -> None:
    """They count as images to be wrong on."""
    assert "1 images without objects: 000000581781.jpg" in datasets.inspect(root, "coco").notes


@pytest.mark.parametrize("missing", ["annotations/instances_val2017.json", "val2017"])
def test_what_is_missing_is_said(root: Path, missing: str) -> None:
    """A folder of another layout tells what was looked for."""
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=f"no (folder )?{missing} in {root}"):
        datasets.inspect(root, "coco")


def test_missing_images_are_counted_and_named(root: Path) -> None:
    """An unpacked half of the archive is no dataset."""
    for name in NAMES[1:]:
        (root / "val2017" / f"{name}.jpg").unlink()
    with pytest.raises(DatasetError, match=r"2 of 3 images are not in val2017: 000000000285\.jpg, 000000581781\.jpg"):
        datasets.inspect(root, "coco")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON, or damaged"),
        (b'{"images": [', "no JSON, or damaged"),
        (b"\xff\xfe\x00", "no JSON, or damaged"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "no list of objects 'images' and no list of objects 'annotations'"),
        (b'{"images": [], "annotations": {}, "categories": []}', "no list of objects 'annotations'"),
        (b'{"images": [1], "annotations": [], "categories": []}', "no list of objects 'images'"),
        (b'{"images": [], "annotations": [], "categories": []}', "it lists no image"),
    ],
)
def test_file_that_holds_no_annotations_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Whatever it is, it is named."""
    write(tmp_path / "coco", content)
    with pytest.raises(DatasetError, match=f"instances_val2017.json: .*{said}"):
        datasets.inspect(tmp_path / "coco", "coco")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d["images"].append(dict(d["images"][0], file_name="x.jpg")), "1 image ids used twice: 285"),
        (lambda d: d["images"].append(dict(d["images"][0], id=1)), "1 image names used twice: 000000000285"),
        (lambda d: d["images"][0].update(file_name="../../etc/passwd"), "1 images without an id and a plain file_name"),
        (lambda d: d["images"][0].update(file_name=".."), "1 images without an id and a plain file_name"),
        (lambda d: d["images"][0].update(id="285"), r"1 images without an id .* \(entries 0\)"),
        (lambda d: d["images"][0].update(id=True), "1 images without an id"),
        (lambda d: d["annotations"].append(annotation(7, 139)), "1 annotation ids used twice: 7"),
        (lambda d: d["annotations"].append(annotation(8, 140)), "1 annotations of images that are not listed: 8"),
        (
            lambda d: d["annotations"].append(annotation(8, 139, category_id=2)),
            "1 annotations of categories that are not listed: 8",
        ),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, 3]), r"1 annotations without numbers .* \(entries 1\)"),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, -3, 4]), "1 annotations without numbers"),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, float("nan"), 4]), "1 annotations without numbers"),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, None, 4]), "1 annotations without numbers"),
        (lambda d: d["annotations"][1].pop("area"), "1 annotations without numbers"),
        (lambda d: d["annotations"][1].update(iscrowd=2), "1 annotations without numbers"),
        (lambda d: d["categories"].append({"id": 1, "name": "again"}), "1 category ids used twice: 1"),
        (lambda d: d["categories"].append({"id": 2}), "1 categories without an id and a name"),
    ],
)
def test_contradictions_are_listed(tmp_path: Path, spoil: Callable[[Document], Any], said: str) -> None:
    """Scores against such a truth would be wrong without a word."""
    content = document()
    spoil(content)
    write(tmp_path / "coco", content)
    with pytest.raises(DatasetError, match=said):
        datasets.inspect(tmp_path / "coco", "coco")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Nobody wants to come back for each."""
    content = document()
    content["annotations"] += [annotation(7, 139), annotation(8, 1)]
    write(tmp_path / "coco", content)
    for path in (tmp_path / "coco" / "val2017").iterdir():
        path.unlink()
    (tmp_path / "coco" / "val2017").rmdir()
    with pytest.raises(DatasetError) as caught:
        datasets.inspect(tmp_path / "coco", "coco")
    assert all(said in str(caught.value) for said in ("no folder val2017", "ids used twice: 7", "not listed: 8"))


def test_crowd_flag_may_be_absent(tmp_path: Path) -> None:
    """Annotations of people's own often leave it out."""
    content = document()
    for entry in content["annotations"]:
        del entry["iscrowd"]
    dataset = opened(write(tmp_path / "coco", content), tmp_path)
    assert {entry["iscrowd"] for entry in dataset.instances["annotations"]} == {0}


def test_changed_annotations_are_noticed(root: Path, tmp_path: Path) -> None:
    """Other boxes in a file of the same length are another truth."""
    dataset = opened(root, tmp_path)
    path = root / "annotations" / "instances_val2017.json"
    path.write_bytes(path.read_bytes().replace(b"150.25", b"150.26"))
    with pytest.raises(DatasetChangedError, match="instances_val2017"):
        datasets.open_dataset(dataset.ref)


def test_lost_image_is_noticed_when_opening(root: Path, tmp_path: Path) -> None:
    """Before any shard starts."""
    dataset = opened(root, tmp_path)
    dataset.image_path(NAMES[1]).unlink()
    with pytest.raises(DatasetChangedError, match=NAMES[1]):
        datasets.open_dataset(dataset.ref)


def test_annotations_are_parsed_once_for_all_shards(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shard looks at the folder; val2017's file has 20 MB."""
    ref = opened(root, tmp_path).ref
    parse = Mock(side_effect=coco_instances.parse)
    monkeypatch.setattr(coco_instances, "parse", parse)
    for _ in range(3):
        datasets.open_manifest(ref)
    assert parse.call_count == 0  # it was parsed when the folder was registered
    path = root / "annotations" / "instances_val2017.json"
    path.write_bytes(path.read_bytes())
    datasets.open_manifest(ref)
    assert parse.call_count == 1  # written again


def test_damage_after_registration_is_a_change(root: Path, tmp_path: Path) -> None:
    """A broken annotation file is not mistaken for lost images alone."""
    ref = opened(root, tmp_path).ref
    (root / "annotations" / "instances_val2017.json").write_bytes(b"{")
    with pytest.raises(DatasetChangedError, match=r"1 of another size \(annotations/instances_val2017.json\)"):
        datasets.open_manifest(ref)
