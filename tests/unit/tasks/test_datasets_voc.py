"""VOC datasets are found where people put them, and what is missing is said exactly."""

from pathlib import Path

import pytest

from npuq.errors import DatasetChangedError, DatasetError
from tasks import datasets
from tasks.protocols import VocTruth
from tests.services.registered import register_folder

ORDER = ["000004", "2008_000002", "000001"]


def annotation(*objects: tuple[str, int]) -> str:
    """Return a file with objects of a name, difficult or not."""
    box = "<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    parts = (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>{box}</object>" for name, difficult in objects
    )
    return f"<annotation>{''.join(parts)}</annotation>"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a good VOC2007 folder: three listed images, one without objects, and an image of another set."""
    base = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    objects: list[list[tuple[str, int]]] = [[("dog", 0), ("person", 1)], [], [(" Cat", 0), ("zebra", 0)]]
    for image_id, of_image in zip(ORDER, objects, strict=True):
        (base / "JPEGImages" / f"{image_id}.jpg").write_bytes(image_id.encode())
        (base / "Annotations" / f"{image_id}.xml").write_text(annotation(*of_image), encoding="ascii")
    (base / "JPEGImages" / "000007.jpg").write_bytes(b"of the training set")
    (base / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{image_id}\n" for image_id in ORDER))
    return base


@pytest.mark.parametrize(
    ("upwards", "prefix"), [(0, ""), (1, "VOC2007/"), (2, "VOCdevkit/VOC2007/")], ids=["year", "devkit", "above"]
)
def test_folder_may_be_the_year_the_devkit_or_above(base: Path, tmp_path: Path, upwards: int, prefix: str) -> None:
    """The images are the listed ones, in the order of the list, with their truth."""
    root = [base, *base.parents][upwards]
    ref = register_folder(root, tmp_path / "manifest.json", dataset_format="voc")
    dataset = datasets.open_dataset(ref)
    assert list(dataset.image_ids) == ORDER
    assert dataset.image_path("000001") == base / "JPEGImages" / "000001.jpg"
    assert dataset.registered("000001").path == f"{prefix}JPEGImages/000001.jpg"
    assert isinstance(dataset, VocTruth)
    assert [dataset.class_names[label] for label in dataset.objects("000004").labels] == ["dog", "person"]
    assert dataset.objects("000004").difficult.tolist() == [False, True]
    assert dataset.objects("000001").boxes.tolist() == [[2.0, 1.0, 29.0, 39.0]]
    assert dataset.objects("2008_000002").boxes.shape == (0, 4)
    assert datasets.verify(ref) == []


def test_view_of_the_first_images_has_their_truth_only(base: Path, tmp_path: Path) -> None:
    """A limit keeps the order of the list."""
    ref = register_folder(base, tmp_path / "manifest.json", dataset_format="voc")
    dataset = datasets.open_dataset(ref, limit=2)
    assert list(dataset.image_ids) == ORDER[:2]
    assert isinstance(dataset, VocTruth)
    for unknown in ("000001", "000007"):
        with pytest.raises(DatasetError, match=unknown):
            dataset.objects(unknown)
        with pytest.raises(DatasetError, match=unknown):
            dataset.image_path(unknown)


def test_what_is_odd_but_harmless_is_noted(base: Path) -> None:
    """Classes that VOC does not have, and images without an object."""
    notes = datasets.inspect(base, "voc").notes
    assert notes == ("1 objects of classes that VOC does not have are left out: zebra", "1 images show no object")


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png"])
def test_images_may_have_another_suffix(base: Path, tmp_path: Path, suffix: str) -> None:
    """Ids are stems; VOC's own suffix is preferred where both are there."""
    image = base / "JPEGImages" / "000001.jpg"
    image.rename(image.with_suffix(suffix))
    (base / "JPEGImages" / "000004.png").write_bytes(b"a second one")
    dataset = datasets.open_dataset(register_folder(base, tmp_path / "manifest.json", dataset_format="voc"))
    assert [dataset.image_path(image_id).suffix for image_id in ORDER] == [".jpg", ".jpg", suffix]


def listed(base: Path, text: str) -> None:
    (base / "ImageSets" / "Main" / "test.txt").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("text", ["000004\r\n2008_000002 \r\n\r\n000001", "\ufeff000004\n2008_000002\n000001\n"])
def test_list_may_be_written_otherwise(base: Path, text: str) -> None:
    """Windows line ends, blanks, a mark of the encoding, no newline at the end."""
    listed(base, text)
    assert [sample.image_id for sample in datasets.inspect(base, "voc").manifest.samples] == ORDER


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "test.txt is empty"),
        ("000004\n000009\n", "1 listed images are not in JPEGImages: 000009"),
        ("000004\n000007\n", "1 listed images have no annotation: 000007"),
        ("000004\n000001\n000004\n", "1 images are twice in ImageSets/Main/test.txt: 000004"),
        ("000004 -1\n000001  1\n", "2 lines .* '000004 -1', '000001  1'; lists of one class"),
        ("../../etc/passwd\n", "not the name of an image alone: '../../etc/passwd'"),
        ("..\n", "not the name of an image alone"),
    ],
)
def test_what_is_wrong_with_the_list_is_said(base: Path, text: str, said: str) -> None:
    """With the line or the name; nothing is registered, and no other folder is looked into."""
    listed(base, text)
    with pytest.raises(DatasetError, match=said):
        datasets.inspect(base, "voc")


@pytest.mark.parametrize("part", ["JPEGImages", "Annotations", "ImageSets/Main/test.txt"])
def test_missing_part_is_named(base: Path, part: str) -> None:
    """Someone unpacked one archive of two."""
    (base / part).rename(base / "elsewhere")
    with pytest.raises(DatasetError, match=f"no {part} in {base}"):
        datasets.inspect(base, "voc")


def test_folder_of_something_else_lacks_all_parts(tmp_path: Path) -> None:
    """The message tells what a VOC folder has."""
    with pytest.raises(DatasetError, match=r"no ImageSets/Main/test\.txt in .*no JPEGImages in .*no Annotations in "):
        datasets.inspect(tmp_path, "voc")


def test_broken_annotations_are_counted_and_named(base: Path) -> None:
    """Also those made to do harm."""
    (base / "Annotations" / "000001.xml").write_text("<annotation>", encoding="ascii")
    (base / "Annotations" / "000004.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', encoding="ascii")
    with pytest.raises(DatasetError, match=r"2 annotations cannot be read: .*000004\.xml.*000001\.xml"):
        datasets.inspect(base, "voc")


def test_set_without_an_object_that_counts_is_refused(base: Path) -> None:
    """Nothing could be scored with it."""
    (base / "Annotations" / "000001.xml").write_text(annotation(("zebra", 0)), encoding="ascii")
    (base / "Annotations" / "000004.xml").write_text(annotation(("dog", 1)), encoding="ascii")
    with pytest.raises(DatasetError, match="no annotation names an object"):
        datasets.inspect(base, "voc")


@pytest.mark.parametrize("path", ["JPEGImages/000001.jpg", "Annotations/000001.xml", "ImageSets/Main/test.txt"])
def test_changed_file_is_noticed(base: Path, tmp_path: Path, path: str) -> None:
    """Images, annotations and the list are all part of the digest."""
    ref = register_folder(base, tmp_path / "manifest.json", dataset_format="voc")
    content = (base / path).read_bytes()
    changed = {
        ".jpg": content[::-1],
        ".xml": content.swapcase(),
        ".txt": b"".join(sorted(content.splitlines(keepends=True))),
    }
    (base / path).write_bytes(changed[Path(path).suffix])
    assert [difference.path for difference in datasets.verify(ref)] == [path]
    if not path.startswith("JPEGImages"):
        with pytest.raises(DatasetChangedError, match=path):
            datasets.open_dataset(ref)


def test_missing_files_are_noticed_before_a_shard_begins(base: Path, tmp_path: Path) -> None:
    """Names and sizes only; images of other sets come and go as they like."""
    ref = register_folder(base, tmp_path / "manifest.json", dataset_format="voc")
    (base / "JPEGImages" / "000007.jpg").unlink()
    datasets.open_manifest(ref)
    (base / "JPEGImages" / "000004.jpg").unlink()
    with pytest.raises(DatasetChangedError, match=r"1 missing \(JPEGImages/000004\.jpg\)"):
        datasets.open_manifest(ref)
