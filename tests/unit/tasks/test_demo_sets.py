"""Synthetic datasets of every format that has one: registered as they are, the same for a seed, whole or not there."""

import sys
from pathlib import Path

import pytest

from npuq.errors import InvalidRequestError, ToolMissingError
from tasks import datasets, demo_sets
from tasks.demo_sets import DEMO_SETS, write_demo_set

each_format = pytest.mark.parametrize("dataset_format", DEMO_SETS)


@each_format
def test_what_is_written_can_be_registered(dataset_format: str, tmp_path: Path) -> None:
    """As many images as were asked for, nothing wrong, and nothing odd but an image that shows no object."""
    written = write_demo_set(dataset_format, tmp_path / "new" / "set", images=6, seed=1)
    facts = datasets.inspect(tmp_path / "new" / "set", dataset_format)
    assert facts.samples == 6
    assert not [note for note in facts.notes if "no object" not in note and "without objects" not in note]
    assert "6 images" in written
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["set"]


@each_format
def test_a_seed_makes_the_dataset(dataset_format: str, tmp_path: Path) -> None:
    """Byte for byte, wherever it is written."""
    digests = []
    for name, seed in {"one": 1, "again": 1, "other": 2}.items():
        (tmp_path / name).mkdir()  # an empty folder is as good as none
        write_demo_set(dataset_format, tmp_path / name, images=4, seed=seed)
        digests.append(datasets.inspect(tmp_path / name, dataset_format).digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("dataset_format", "images", "said"),
    [
        ("imagnet", 4, "no demo of the format 'imagnet'. Known: imagenet"),
        ("imagenet", 0, "1 to 100000 images, asked were 0"),
        ("imagenet", 1, "2 images are the fewest"),
    ],
)
def test_what_cannot_be_written_is_refused(dataset_format: str, images: int, said: str, tmp_path: Path) -> None:
    """Nothing is left behind."""
    with pytest.raises(InvalidRequestError, match=said):
        write_demo_set(dataset_format, tmp_path / "set", images=images, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", ["photos/mine.jpg", ""], ids=["folder", "file"])
def test_what_is_there_already_stays(inside: str, tmp_path: Path) -> None:
    """A demo never writes among, or over, somebody's files."""
    path = tmp_path / "mine" / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    with pytest.raises(InvalidRequestError, match=r"mine (holds something already|cannot be written)"):
        write_demo_set("imagenet", tmp_path / "mine", images=2, seed=0)
    assert path.read_text() == "precious"


def test_a_writer_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that fills up halfway, for example."""

    def fails(folder: Path, *, images: int, seed: int) -> str:
        (folder / "half").write_text(f"{images} {seed}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo_sets, "DEMO_SETS", {"imagenet": fails})
    with pytest.raises(InvalidRequestError, match="No space left"):
        write_demo_set("imagenet", tmp_path / "set", images=2, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_laptop_that_cannot_draw_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Numpy and Pillow come with the worker."""
    monkeypatch.setitem(sys.modules, "tasks.demo_images", None)
    with pytest.raises(ToolMissingError, match=r"npuq\[worker\]"):
        write_demo_set("imagenet", tmp_path / "set", images=2, seed=0)
