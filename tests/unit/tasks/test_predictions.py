"""Predictions survive the file, and shards are joined by image, never by order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuq.errors import ArtifactError, Blame, DatasetError
from tasks.predictions import join, read_predictions, write_predictions
from tasks.protocols import ClassScores, Detections, Prediction


def scores(*values: float) -> ClassScores:
    return ClassScores(scores=np.array(values, dtype=np.float32))


def boxes(count: int) -> Detections:
    return Detections(
        boxes=np.arange(4 * count, dtype=np.float32).reshape(count, 4),
        scores=np.linspace(1, 0, count, dtype=np.float32),
        labels=np.arange(count, dtype=np.int64),
    )


def shard(path: Path, *image_ids: str, pass_name: str = "main") -> Path:
    write_predictions(path, [(image_id, scores(1, 2)) for image_id in image_ids], pass_name=pass_name)
    return path


def test_class_scores_survive_the_file(tmp_path: Path) -> None:
    """Ids, order, values and the pass come back."""
    written = [("b", scores(1, 2, 3)), ("a", scores(4, 5, 6))]
    assert write_predictions(tmp_path / "p.npz", written, pass_name="flipped") == 2  # noqa: S106 - a pass
    read = read_predictions(tmp_path / "p.npz")
    assert (read.pass_name, list(read.predictions)) == ("flipped", ["b", "a"])
    for (_, before), after in zip(written, read.predictions.values(), strict=True):
        assert isinstance(after, ClassScores)
        np.testing.assert_array_equal(after.scores, before.scores)


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_detections_survive_the_file(tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    """Each image gets its own boxes back, images without any included."""
    path = tmp_path_factory.mktemp("detections") / "p.npz"
    write_predictions(path, [(str(number), boxes(count)) for number, count in enumerate(counts)])
    read = read_predictions(path).predictions
    for number, count in enumerate(counts):
        after, before = read[str(number)], boxes(count)
        assert isinstance(after, Detections)
        assert (after.boxes.shape, str(after.labels.dtype)) == ((count, 4), "int64")
        np.testing.assert_array_equal(after.boxes, before.boxes)
        np.testing.assert_array_equal(after.scores, before.scores)


def test_equal_predictions_give_equal_bytes(tmp_path: Path) -> None:
    """A repeated infer job makes the same artifact."""
    assert shard(tmp_path / "1.npz", "a", "b").read_bytes() == shard(tmp_path / "2.npz", "a", "b").read_bytes()


def test_empty_shard_can_be_written_and_read(tmp_path: Path) -> None:
    """Nothing is a legal number of predictions."""
    assert read_predictions(shard(tmp_path / "p.npz")).predictions == {}


def test_shard_with_an_image_twice_is_refused(tmp_path: Path) -> None:
    """The writer notices before the join has to."""
    with pytest.raises(DatasetError, match="two predictions for a"):
        shard(tmp_path / "p.npz", "a", "b", "a")


def test_mixed_kinds_are_refused(tmp_path: Path) -> None:
    """One recipe predicts one kind."""
    mixed: list[tuple[str, Prediction]] = [("a", boxes(1)), ("b", scores(1))]
    with pytest.raises(TypeError, match="not both"):
        write_predictions(tmp_path / "p.npz", mixed)


@pytest.mark.parametrize("content", [b"", b"not a zip archive", b"PK\x03\x04 torn"])
def test_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    """Damage is told as such, and infer is what to run again."""
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"p\.npz is not a readable predictions file"):
        read_predictions(tmp_path / "p.npz")


def test_pickled_arrays_are_not_unpickled(tmp_path: Path) -> None:
    """An object array in the file is refused, not executed."""
    np.savez(tmp_path / "p.npz", schema=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError):
        read_predictions(tmp_path / "p.npz")


def test_shards_are_joined_in_the_datasets_order(tmp_path: Path) -> None:
    """Whichever shard comes first, the images come in the order that was asked for."""
    files = [shard(tmp_path / "2.npz", "c", "d"), shard(tmp_path / "1.npz", "b", "a")]
    joined = join(files, ["a", "b", "c", "d"], ["main"])
    assert list(joined) == ["a", "b", "c", "d"]
    assert all(list(of_passes) == ["main"] for of_passes in joined.values())


def test_passes_are_joined_per_image(tmp_path: Path) -> None:
    """Each image has every pass."""
    files = [shard(tmp_path / f"{name}.npz", "a", pass_name=name) for name in ("flipped", "original")]
    assert list(join(files, ["a"], ["original", "flipped"])["a"]) == ["original", "flipped"]


@pytest.mark.parametrize(
    ("flipped", "said"),
    [
        ([("b",), ("c",)], "no shard has a prediction of pass 'flipped' for a"),
        ([("c", "a"), ("b", "a")], "another shard of pass 'flipped' has: a"),
    ],
)
def test_an_image_must_be_once_in_each_pass(tmp_path: Path, flipped: list[tuple[str, ...]], said: str) -> None:
    """One that another pass has does not make up for it, and the pass is named with the image."""
    files = [shard(tmp_path / "o.npz", "a", "b", "c", pass_name="original")]  # noqa: S106 - a pass
    files += [shard(tmp_path / f"{n}.npz", *ids, pass_name="flipped") for n, ids in enumerate(flipped)]  # noqa: S106
    with pytest.raises(DatasetError, match=said):
        join(files, ["a", "b", "c"], ["original", "flipped"])


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        ([("a", "b")], "no shard has a prediction of pass 'main' for c"),
        ([("a", "b"), ("b", "c")], "predicts images again, another shard of pass 'main' has: b"),
        ([("a", "b"), ("c", "x")], "images that were not asked for: x"),
    ],
)
def test_wrong_cover_names_the_image(tmp_path: Path, shards: list[tuple[str, ...]], said: str) -> None:
    """A missing, doubled or unknown image is named; the fleet is to blame, not the person."""
    files = [shard(tmp_path / f"{number}.npz", *ids) for number, ids in enumerate(shards)]
    with pytest.raises(DatasetError, match=said) as caught:
        join(files, ["a", "b", "c"], ["main"])
    assert caught.value.info.blame is Blame.FLEET


def test_foreign_pass_is_refused(tmp_path: Path) -> None:
    """A shard of a pass that nobody wants does not slip in."""
    with pytest.raises(DatasetError, match="holds the pass 'flipped', wanted are main"):
        join([shard(tmp_path / "p.npz", "a", pass_name="flipped")], ["a"], ["main"])  # noqa: S106 - a pass
