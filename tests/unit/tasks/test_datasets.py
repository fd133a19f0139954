"""Datasets are found where people put them, and what is wrong with one is said exactly."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from npuq.errors import Blame, DatasetChangedError, DatasetError, DatasetMissingError, InvalidRequestError
from tasks import datasets
from tasks.dataset_files import Change, preprocess_registered
from tasks.protocols import Array, ClassLabels, Recipe, Sample
from tasks.steps import DatasetRef, ImageListRef

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
        (IMAGES | {"n1/a.JPEG": b"1"}, LABELS, r"names used twice: val/n1/a\.JPEG and val/a\.JPEG"),
        (IMAGES | {"a.png": b"1"}, LABELS, "names used twice"),
    ],
)
def test_what_is_wrong_is_said_when_looking(
    imagenet_folder: Maker, images: dict[str, bytes], labels: str | None, said: str
) -> None:
    """The problem is listed, and nothing is registered."""
    root = imagenet_folder(images, labels)
    (root / "val").mkdir(exist_ok=True)
    with pytest.raises(DatasetError, match=said):
        datasets.inspect(root, "imagenet")


def test_empty_image_files_are_a_problem(imagenet_folder: Maker) -> None:
    """A copy that ran out of disk leaves files of zero bytes."""
    root = imagenet_folder(IMAGES | {"b.JPEG": b""}, LABELS)
    with pytest.raises(DatasetError, match=r"1 images of zero bytes: val/b\.JPEG"):
        datasets.inspect(root, "imagenet")


def test_labels_without_an_image_are_only_noted(imagenet_folder: Maker, registered: Register) -> None:
    """A part of ImageNet with the label file of all of it is a usual thing, and usable."""
    root = imagenet_folder(IMAGES, LABELS + "c.JPEG 1\n")
    facts = datasets.inspect(root, "imagenet")
    assert facts.notes == ("labels without an image: 1 (c)",)
    assert len(datasets.open_dataset(registered(root)).image_ids) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "val" / "b.JPEG").unlink(), r"1 missing \(val/b\.JPEG\)"),
        (lambda root: (root / "val" / "c.JPEG").write_bytes(b"1"), r"1 extra \(val/c\.JPEG\)"),
        (lambda root: (root / "val" / "b.JPEG").write_bytes(b"333"), r"1 of another size \(val/b\.JPEG\)"),
        (lambda root: (root / "val_label.txt").unlink(), r"1 missing \(val_label\.txt\)"),
        (lambda root: (root / "val_label.txt").write_text("a.JPEG 65\nb.JPEG 9\n"), r"size \(val_label\.txt\)"),
        (
            lambda root: (root / "val" / "b.JPEG").rename(root / "val" / "c.JPEG"),
            r"1 missing \(val/b\.JPEG\); 1 extra \(val/c\.JPEG\)",
        ),
    ],
    ids=["missing", "extra", "size", "no labels", "labels", "renamed"],
)
def test_a_changed_listing_is_refused_when_opening(
    imagenet_folder: Maker, registered: Register, change: Callable[[Path], object], said: str
) -> None:
    """Dataset, host and the first files are named; another host may have the right ones."""
    root = imagenet_folder(IMAGES, LABELS)
    ref = registered(root)
    change(root)
    with pytest.raises(DatasetChangedError, match=said) as caught:
        datasets.open_dataset(ref)
    assert caught.value.info.message.startswith(f"The dataset 'small' in {root} on host h1 is not what was registered")
    assert (caught.value.info.blame, caught.value.info.retry) == (Blame.HOST, False)
    assert f"npuq datasets add NEW_NAME {root}" in caught.value.info.message


def test_labels_of_other_content_are_refused_when_scoring(imagenet_folder: Maker, registered: Register) -> None:
    """Two classes exchanged leave every size as it was."""
    root = imagenet_folder(IMAGES, LABELS)
    ref = registered(root)
    (root / "val_label.txt").write_text(LABELS.replace("65", "66"))
    datasets.open_manifest(ref)
    with pytest.raises(DatasetChangedError, match=r"val_label\.txt of the dataset 'small' on host h1"):
        datasets.open_dataset(ref)


def test_verify_lists_everything_that_differs(imagenet_folder: Maker, registered: Register) -> None:
    """Also what no size shows, and nothing when nothing differs."""
    root = imagenet_folder(IMAGES | {"c.JPEG": b"1"}, LABELS + "c.JPEG 1\n")
    ref = registered(root)
    assert datasets.verify(ref) == []
    (root / "val" / "a.JPEG").unlink()
    (root / "val" / "b.JPEG").write_bytes(b"x" * len(IMAGES["b.JPEG"]))
    (root / "val" / "d.JPEG").write_bytes(b"1")
    (root / "val_label.txt").write_text(LABELS)
    found = [(difference.path, difference.change) for difference in datasets.verify(ref)]
    assert found == [
        ("val/a.JPEG", Change.MISSING),
        ("val/b.JPEG", Change.CONTENT),
        ("val/d.JPEG", Change.EXTRA),
        ("val_label.txt", Change.SIZE),
    ]


def test_digest_does_not_depend_on_the_place(imagenet_folder: Maker, registered: Register) -> None:
    """Two hosts with the same dataset in different folders agree."""
    root = imagenet_folder(IMAGES, LABELS)
    before = registered(root).digest
    assert registered(root.rename(root.parent / "elsewhere")).digest == before


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"kind":"npuq.dataset","version":2}'])
def test_a_damaged_manifest_is_refused(imagenet_folder: Maker, registered: Register, text: bytes) -> None:
    """Nothing vouches for the dataset then; the way out is told."""
    ref = registered(imagenet_folder(IMAGES, LABELS))
    ref.manifest.write_bytes(text)
    for digest in (ref.digest, hashlib.sha256(text).hexdigest()):
        with pytest.raises(DatasetError, match="Register the dataset again: npuq datasets add small"):
            datasets.open_manifest(replace(ref, digest=digest))


def test_a_registration_that_contradicts_its_manifest_is_refused(imagenet_folder: Maker, registered: Register) -> None:
    """The number of images is in the database too, because plans are made from it."""
    ref = registered(imagenet_folder(IMAGES, LABELS))
    with pytest.raises(DatasetError, match="registered as 3 images in imagenet format, but its manifest lists 2"):
        datasets.open_manifest(replace(ref, samples=3))


def test_progress_of_hashing_ends_at_all_bytes(imagenet_folder: Maker) -> None:
    """The total is known from the start."""
    told: list[tuple[int, int]] = []
    datasets.inspect(imagenet_folder(IMAGES, LABELS), "imagenet", progress=lambda *sizes: told.append(sizes))
    total = sum(map(len, IMAGES.values()))
    assert len(told) == len(IMAGES)
    assert told[-1] == (total, total)


def test_an_image_that_changes_while_it_is_decoded_is_refused(imagenet_folder: Maker, registered: Register) -> None:
    """The bytes that were hashed may not be those that were decoded."""

    class Slow:
        """A recipe during whose work somebody replaces the image."""

        def preprocess(self, image_path: Path, pass_name: str) -> Sample:
            """Replace what is read."""
            image_path.rename(image_path.with_suffix(".old"))
            image_path.write_bytes(image_path.with_suffix(".old").read_bytes())
            return Sample(array=cast("Array", None), meta={"pass": pass_name})

    ref = registered(imagenet_folder(IMAGES, LABELS))
    file = datasets.open_dataset(ref).registered("a")
    with pytest.raises(DatasetChangedError, match=r"a\.JPEG .* changed while it was read"):
        preprocess_registered(cast("Recipe", Slow()), ref, file, "main")


def test_absent_folder_is_the_hosts_trouble(tmp_path: Path, imagenet_folder: Maker, registered: Register) -> None:
    """The message names the folder and what to do; the input is innocent."""
    ref = replace(registered(imagenet_folder(IMAGES, LABELS)), name="imagenet-val", root=tmp_path / "nowhere")
    with pytest.raises(DatasetMissingError, match=r"nowhere\. Mount or copy it there") as caught:
        datasets.open_dataset(ref)
    assert "'imagenet-val' is not on host h1" in caught.value.info.message
    assert caught.value.info.blame is Blame.HOST


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    """The known ones are named."""
    with pytest.raises(InvalidRequestError, match="Known: imagenet"):
        datasets.inspect(tmp_path, "imagnet")


def test_limit_takes_the_first_of_the_order(imagenet_folder: Maker, registered: Register) -> None:
    """A limited dataset has fewer images, and denies the others."""
    ref = registered(imagenet_folder(IMAGES, LABELS))
    part = datasets.open_dataset(ref, limit=1)
    assert (tuple(part.image_ids), part.ref) == (("a",), ref)
    with pytest.raises(DatasetError, match="has no image 'b'"):
        part.image_path("b")
    assert tuple(datasets.open_dataset(ref, limit=99).image_ids) == ("a", "b")
    with pytest.raises(InvalidRequestError, match="limit of 0"):
        datasets.open_dataset(ref, limit=0)


def listing(ref: DatasetRef, text: str, *, count: int | None = None) -> DatasetRef:
    """Return the part of a dataset that a list names."""
    path = ref.manifest.with_name("part.txt")
    path.write_text(text)
    lines = len(text.splitlines())
    return replace(ref, images=ImageListRef(path=path, digest="1" * 64, count=lines if count is None else count))


def test_a_list_takes_its_images_in_the_datasets_order(imagenet_folder: Maker, registered: Register) -> None:
    """Whatever order it has; what it leaves out is not there."""
    images = {f"{name}.JPEG": name.encode() for name in "dbac"}
    ref = registered(imagenet_folder(images, "".join(f"{name} 1\n" for name in images)))
    part = datasets.open_dataset(listing(ref, "c\na\n"))
    assert tuple(part.image_ids) == ("a", "c")
    with pytest.raises(DatasetError, match="has no image 'b'"):
        part.registered("b")


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("a\nx\n", None, r"lists images that the dataset 'small' does not have, 1 of 2: 'x' \(line 2\)"),
        ("a\nb\n", 3, "has 2 images, the run was planned with 3"),
        ("", 1, "lists no image"),
    ],
)
def test_a_list_of_other_images_is_the_inputs_fault(
    imagenet_folder: Maker, registered: Register, text: str, count: int | None, said: str
) -> None:
    """Lists come with messages; nothing is scored on what was not asked for."""
    ref = registered(imagenet_folder(IMAGES, LABELS))
    with pytest.raises(InvalidRequestError, match=said):
        datasets.open_dataset(listing(ref, text, count=count))


def test_a_reference_crosses_a_pipe_as_it_is(imagenet_folder: Maker, registered: Register) -> None:
    """With its list and without."""
    ref = registered(imagenet_folder(IMAGES, LABELS))
    for sent in (ref, listing(ref, "a\n")):
        assert DatasetRef.from_json(json.loads(json.dumps(sent.to_json()))) == sent
