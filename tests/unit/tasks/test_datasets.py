"""Datasets are found where people put them, and what is wrong with one is said exactly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from npuq.errors import Blame, DatasetError, DatasetMissingError, InvalidRequestError
from tasks import datasets
from tasks.protocols import ClassLabels
from tasks.steps import DatasetRef

Maker = Callable[..., Path]
Register = Callable[[Path], DatasetRef]

IMAGES = {"b.JPEG": b"22", "a.JPEG": b"1"}
LABELS = "a.JPEG 65\nb.JPEG 970\n"


@pytest.mark.parametrize("inside", ["val", ".", "val/n01440764", "n01440764"])
def test_images_are_found_wherever_they_usually_lie(imagenet_folder: Maker, registered: Register, inside: str) -> None:
    """Flat or in class folders, in `val` or in the root: same ids, sorted, each with its label."""
    root = imagenet_folder(IMAGES, LABELS, inside=inside)
    dataset = datasets.open_dataset(registered(root))
    assert tuple(dataset.image_ids) == ("a", "b")
    assert dataset.image_path("b") == root / inside / "b.JPEG"
    assert isinstance(dataset, ClassLabels)
    assert [dataset.label("a"), dataset.label("b")] == [65, 970]


def test_labels_beside_the_images_are_found(imagenet_folder: Maker, registered: Register) -> None:
    """The label file may lie in `val`."""
    root = imagenet_folder({**IMAGES, "val_label.txt": LABELS.encode()}, None)
    assert tuple(datasets.open_dataset(registered(root)).image_ids) == ("a", "b")


def test_stray_files_are_no_images(imagenet_folder: Maker, registered: Register) -> None:
    """Hidden copies, archives and notes beside the images do not count."""
    stray = {"._a.JPEG": b"", ".DS_Store": b"", "notes.txt": b"", "val.tar": b""}
    assert registered(imagenet_folder(IMAGES | stray, LABELS)).samples == 2


@pytest.mark.parametrize(
    "labels", ["a.JPEG\t65\r\nb.JPEG  970\r\n\r\n", "b 970\na 65", "\ufeffa.JPEG 65\nb.JPEG 970\n"]
)
def test_label_lines_may_be_written_otherwise(imagenet_folder: Maker, registered: Register, labels: str) -> None:
    """Tabs, Windows line ends, blank lines, names without a suffix and another order are read."""
    dataset = datasets.open_dataset(registered(imagenet_folder(IMAGES, labels)))
    assert isinstance(dataset, ClassLabels)
    assert [dataset.label("a"), dataset.label("b")] == [65, 970]


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ({}, LABELS, "no images"),
        (IMAGES, None, "no val_label.txt"),
        (IMAGES, "", "2 images without a label in val_label.txt: a, b"),
        (IMAGES, "a.JPEG 65\n", "1 images without a label in val_label.txt: b"),
        (IMAGES, LABELS + "c.JPEG cat\n", r"line 3 \('c.JPEG cat'\)"),
        (IMAGES, LABELS + "a.JPEG 66\n", r"line 3 \('a.JPEG 66'\)"),
        (IMAGES, LABELS + "c.JPEG -1\n", "line 3"),
        (IMAGES, LABELS + "c.JPEG 1001\n", "line 3"),
        (IMAGES, LABELS + "c.JPEG 1000\n", "devkit's ids, which start at 1"),
        (IMAGES | {"n1/a.JPEG": b"1"}, LABELS, r"names used twice: n1/a\.JPEG and a\.JPEG"),
        (IMAGES | {"a.png": b"1"}, LABELS, "names used twice"),
    ],
)
def test_what_is_wrong_is_said_when_looking_and_when_opening(
    imagenet_folder: Maker, registered: Register, images: dict[str, bytes], labels: str | None, said: str
) -> None:
    """`inspect` lists the problem, and `open_dataset` refuses with the same words."""
    root = imagenet_folder(images, labels)
    (root / "val").mkdir(exist_ok=True)
    problems = datasets.inspect(root, "imagenet").problems
    with pytest.raises(DatasetError, match=said) as caught:
        datasets.open_dataset(registered(root))
    assert any(problem in caught.value.info.message for problem in problems)


def test_empty_image_files_are_a_problem(imagenet_folder: Maker) -> None:
    """A copy that ran out of disk leaves files of zero bytes."""
    root = imagenet_folder(IMAGES | {"b.JPEG": b""}, LABELS)
    assert datasets.inspect(root, "imagenet").problems == ("1 images of zero bytes: b.JPEG",)


def test_labels_without_an_image_are_only_noted(imagenet_folder: Maker, registered: Register) -> None:
    """A part of ImageNet with the label file of all of it is a usual thing, and usable."""
    root = imagenet_folder(IMAGES, LABELS + "c.JPEG 1\n")
    facts = datasets.inspect(root, "imagenet")
    assert (facts.problems, facts.notes) == ((), ("1 labels without an image: c",))
    assert len(datasets.open_dataset(registered(root)).image_ids) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "val" / "c.JPEG").write_bytes(b"1"),
        lambda root: (root / "val" / "b.JPEG").rename(root / "val" / "c.JPEG"),
        lambda root: (root / "val" / "b.JPEG").write_bytes(b"333"),
        lambda root: (root / "val_label.txt").write_text("a.JPEG 65\nb.JPEG 971\nc.JPEG 1\n"),
    ],
    ids=["another image", "renamed", "another size", "another label"],
)
def test_changed_dataset_is_noticed(
    imagenet_folder: Maker, registered: Register, change: Callable[[Path], object]
) -> None:
    """Whatever changes what is scored, changes the digest; `verify` refuses."""
    root = imagenet_folder(IMAGES, LABELS + "c.JPEG 1\n")
    ref = registered(root)
    assert datasets.verify(ref).digest == ref.digest
    change(root)
    with pytest.raises(DatasetError, match="is not the one that was registered"):
        datasets.verify(ref)


def test_digest_does_not_depend_on_the_place(imagenet_folder: Maker, registered: Register) -> None:
    """Two hosts with the same dataset in different folders agree."""
    root = imagenet_folder(IMAGES, LABELS)
    before = registered(root).digest
    moved = root.rename(root.parent / "elsewhere")
    (moved / "val").rename(moved / "n01440764")
    assert registered(moved).digest == before


def test_opening_notices_another_number_of_images(imagenet_folder: Maker, registered: Register) -> None:
    """The cheap check of every opening."""
    ref = registered(imagenet_folder(IMAGES, LABELS))
    with pytest.raises(DatasetError, match="it has 2 images, registered were 3"):
        datasets.open_dataset(replace(ref, samples=3))


def test_absent_folder_is_the_hosts_trouble(tmp_path: Path) -> None:
    """The message names the folder and what to do; the input is innocent."""
    ref = DatasetRef(name="imagenet-val", format="imagenet", root=tmp_path / "nowhere", digest="0" * 64, samples=1)
    with pytest.raises(DatasetMissingError, match=r"nowhere\. Mount or copy it there") as caught:
        datasets.open_dataset(ref)
    assert caught.value.info.blame is Blame.HOST


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    """The known ones are named."""
    with pytest.raises(InvalidRequestError, match="Known: imagenet"):
        datasets.inspect(tmp_path, "imagnet")


def test_limit_takes_the_first_of_the_order(imagenet_folder: Maker, registered: Register) -> None:
    """A limited view has fewer images, and denies the others."""
    dataset = datasets.open_dataset(registered(imagenet_folder(IMAGES, LABELS)))
    view = datasets.limited(dataset, 1)
    assert tuple(view.image_ids) == ("a",)
    with pytest.raises(DatasetError, match="has no image 'b'"):
        view.image_path("b")
    assert tuple(datasets.limited(dataset, 99).image_ids) == ("a", "b")
    assert datasets.limited(dataset, None) is dataset
    with pytest.raises(InvalidRequestError, match="limit of 0"):
        datasets.limited(dataset, 0)
