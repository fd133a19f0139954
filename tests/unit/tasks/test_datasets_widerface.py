"""WIDER FACE datasets are found where people put them, and what is missing is said exactly."""

from pathlib import Path

import pytest

from npuq.errors import DatasetChangedError, DatasetError
from tasks import datasets, demo_widerface
from tasks.datasets_widerface import IMAGE_PLACES, TRUTH_PLACES
from tasks.protocols import WiderTruth
from tasks.widerface_truth import FILES
from tests.services.registered import register_folder

ORDER = [
    "0--Parade/0_Parade_demo_4",
    "0--Parade/0_Parade_demo_0",
    "1--Handshaking/1_Handshaking_demo_1",
    "10--People_Marching/10_People_Marching_demo_2",
    "2--Demonstration/2_Demonstration_demo_3",
]
IMAGES, TRUTH = IMAGE_PLACES[0], TRUTH_PLACES[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a good folder of five images; not to be changed."""
    folder = tmp_path_factory.mktemp("wider") / "made"
    demo_widerface.write(folder, images=5, seed=3)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """Return a folder of one's own, with an image that the truth does not list."""
    root = tmp_path / "wider"
    for path in made.rglob("*.*"):
        copy = root / path.relative_to(made)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (root / IMAGES / "0--Parade" / "mine.jpg").write_bytes(b"a holiday")
    return root


@pytest.mark.parametrize(
    ("images", "truth"), [*((IMAGES, place) for place in TRUTH_PLACES), *((place, TRUTH) for place in IMAGE_PLACES[1:])]
)
def test_images_and_truth_may_be_where_people_have_them(images: str, truth: str, root: Path, tmp_path: Path) -> None:
    """The official places, those of ports, or the folder itself."""
    for before, after in ((IMAGES, images), (TRUTH, truth)):
        (root / before).rename(tmp_path / "moved")
        (root / after).parent.mkdir(parents=True, exist_ok=True)
        if after == ".":
            for name in FILES:
                (tmp_path / "moved" / name).rename(root / name)
            (tmp_path / "moved").rmdir()
        else:
            (tmp_path / "moved").rename(root / after)
    ref = register_folder(root, tmp_path / "manifest.json", dataset_format="widerface")
    dataset = datasets.open_dataset(ref)
    assert list(dataset.image_ids) == ORDER
    assert dataset.registered(ORDER[0]).path == f"{images}/{ORDER[0]}.jpg"
    assert datasets.verify(ref) == []


def test_an_incomplete_folder_of_truth_does_not_hide_the_whole_one(root: Path) -> None:
    """wider_face_split.zip has the first file, eval_tools.zip all four."""
    (root / "wider_face_split").mkdir()
    (root / "wider_face_split" / FILES[0]).write_bytes((root / TRUTH / FILES[0]).read_bytes())
    found = datasets.inspect(root, "widerface").manifest
    assert [file.path for file in found.annotations] == sorted(f"{TRUTH}/{name}" for name in FILES)


def test_view_of_the_first_images_has_their_truth_only(root: Path, tmp_path: Path) -> None:
    """A limit keeps the order of the files, and leaves other faces out."""
    ref = register_folder(root, tmp_path / "manifest.json", dataset_format="widerface")
    dataset, whole = datasets.open_dataset(ref, limit=2), datasets.open_dataset(ref)
    assert list(dataset.image_ids) == ORDER[:2]
    assert isinstance(dataset, WiderTruth)
    assert isinstance(whole, WiderTruth)
    assert dataset.faces(ORDER[1]).boxes.tolist() == whole.faces(ORDER[1]).boxes.tolist()
    for unknown in (ORDER[2], "0--Parade/mine"):
        with pytest.raises(DatasetError, match=unknown):
            dataset.faces(unknown)


def test_images_that_are_not_listed_are_noted_and_may_come_and_go(root: Path, tmp_path: Path) -> None:
    """They are no part of the dataset."""
    assert datasets.inspect(root, "widerface").notes == (
        "1 images that wider_face_val.mat does not list: 0--Parade/mine",
    )
    ref = register_folder(root, tmp_path / "manifest.json", dataset_format="widerface")
    (root / IMAGES / "0--Parade" / "mine.jpg").unlink()
    datasets.open_manifest(ref)
    (root / IMAGES / f"{ORDER[2]}.jpg").unlink()
    with pytest.raises(DatasetChangedError, match=rf"1 missing \({IMAGES}/{ORDER[2]}\.jpg\)"):
        datasets.open_manifest(ref)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_of_the_truth_is_named(name: str, root: Path) -> None:
    """With the archive that has it."""
    (root / TRUTH / name).unlink()
    with pytest.raises(DatasetError, match=rf"no {name} in .*ground_truth; the official eval_tools\.zip has all four"):
        datasets.inspect(root, "widerface")


def test_folder_of_something_else_lacks_all_parts(tmp_path: Path) -> None:
    """The message tells what a WIDER FACE folder has."""
    with pytest.raises(
        DatasetError, match=r"no folder WIDER_val/images or images in .*no wider_face_val\.mat, wider_e"
    ):
        datasets.inspect(tmp_path, "widerface")


def test_missing_images_are_counted_and_named(root: Path) -> None:
    """Someone unpacked half of an archive."""
    (root / IMAGES / f"{ORDER[3]}.jpg").rename(root / IMAGES / "elsewhere.jpg")
    with pytest.raises(DatasetError, match=f"1 of 5 images are not in {IMAGES}: {ORDER[3]}"):
        datasets.inspect(root, "widerface")


def test_damaged_truth_is_named(root: Path) -> None:
    """The image listing of a shard goes on without it; the digest tells."""
    (root / TRUTH / FILES[2]).write_bytes(b"MATLAB 7.3 MAT-file")
    with pytest.raises(DatasetError, match=f"The ground truth {FILES[2]} cannot be used"):
        datasets.inspect(root, "widerface")


def test_difficulty_that_no_face_counts_for_is_refused(root: Path) -> None:
    """Nothing could be scored with it."""
    small = next(picture for picture in demo_widerface.pictures(9, seed=3) if not picture.truth.counted["easy"].any())
    for name, content in demo_widerface.truth_files({"2--Demonstration": {"2_Demonstration_demo_3": small}}).items():
        (root / TRUTH / name).write_bytes(content)
    with pytest.raises(DatasetError, match="no face counts as easy"):
        datasets.inspect(root, "widerface")


@pytest.mark.parametrize("path", [f"{IMAGES}/{ORDER[0]}.jpg", *(f"{TRUTH}/{name}" for name in FILES)])
def test_changed_file_is_noticed(path: str, root: Path, tmp_path: Path) -> None:
    """Images and all four files are part of the digest."""
    ref = register_folder(root, tmp_path / "manifest.json", dataset_format="widerface")
    content = bytearray((root / path).read_bytes())
    content[20] ^= 1  # within the text at the beginning of a .mat file, which no reader looks at
    (root / path).write_bytes(content)
    assert [difference.path for difference in datasets.verify(ref)] == [path]
    if path.endswith(".mat"):
        with pytest.raises(DatasetChangedError, match=path):
            datasets.open_dataset(ref)
