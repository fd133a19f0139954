"""Predictions as the files that a dataset's own tools read."""

from pathlib import Path

import numpy as np
import pytest

from npuq.errors import ArtifactError, DatasetError, InvalidRequestError
from tasks import predictions, registry, result_files
from tasks.protocols import Detections

FACE = Detections(
    boxes=np.array([[10, 20, 29.5, 39]], np.float32), scores=np.array([0.9], np.float32), labels=np.array([1], np.int64)
)
IMAGES = ("0--Parade/a", "1--Handshaking/b")


def shards(folder: Path, *, original: tuple[str, ...] = IMAGES, flipped: tuple[str, ...] = IMAGES) -> list[Path]:
    """Write the same face in each image of each pass."""
    written = []
    for pass_name, image_ids in {"original": original, "flipped": flipped}.items():
        path = folder / f"{pass_name}.npz"
        predictions.write_predictions(path, [(image_id, FACE) for image_id in image_ids], pass_name=pass_name)
        written.append(path)
    return written


def test_each_image_has_a_file_in_the_folder_of_its_event(tmp_path: Path) -> None:
    """The passes are merged; what is in the way is not overwritten."""
    recipe = registry.get("pyramidbox")
    assert result_files.write(recipe, shards(tmp_path), tmp_path / "faces") == len(IMAGES)
    text = (tmp_path / "faces" / "1--Handshaking" / "b.txt").read_text()
    assert text == "1--Handshaking/b.jpg\n1\n10.0 20.0 20.5 20.0 0.900\n"
    with pytest.raises(InvalidRequestError, match="is not empty"):
        result_files.write(recipe, shards(tmp_path), tmp_path / "faces")


def test_what_does_not_add_up_writes_nothing(tmp_path: Path) -> None:
    """An image that one pass lacks, one outside of the folder, a recipe without such files."""
    recipe, target = registry.get("pyramidbox"), tmp_path / "faces"
    with pytest.raises(DatasetError, match=r"pass 'flipped' for 1--Handshaking/b"):
        result_files.write(recipe, shards(tmp_path, flipped=IMAGES[:1]), target)
    with pytest.raises(ArtifactError, match="outside"):
        result_files.write(recipe, shards(tmp_path, original=("../a",), flipped=("../a",)), target)
    with pytest.raises(InvalidRequestError, match="mobilenet_v1 writes no files"):
        result_files.write(registry.get("mobilenet_v1"), [], target)
    assert not target.exists()
