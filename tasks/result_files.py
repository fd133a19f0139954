"""The predictions of a run as the text files that a dataset's own tools read, so that they can score them too."""

from collections.abc import Sequence
from pathlib import Path

from npuq.errors import ArtifactError, InvalidRequestError
from tasks import predictions
from tasks.protocols import Recipe, WritesResultFiles


def write(recipe: Recipe, shards: Sequence[Path], folder: Path) -> int:
    """Join shards, merge the passes of each image, and write its file.

    Args:
        recipe: the one that predicted, with its options.
        shards: files of predictions: of every pass, the same images.
        folder: an empty or a new one.

    Returns:
        How many files.

    Raises:
        InvalidRequestError: the recipe's dataset has no such files, or there is something in the folder.
        DatasetError: an image is missing in a pass, or twice in it.
        ArtifactError: a shard cannot be read, or names an image that would lie outside of the folder.
    """
    if not isinstance(recipe, WritesResultFiles):
        raise InvalidRequestError(f"{recipe.id} writes no files: its dataset's tools read none that npuq knows")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequestError(f"{folder} is not empty: name an empty or a new folder")
    image_ids = dict.fromkeys(
        image_id for shard in shards for image_id in predictions.read_predictions(shard).predictions
    )
    for image_id, of_passes in predictions.join(shards, list(image_ids), recipe.passes).items():
        place, text = recipe.result_file(image_id, recipe.merge(of_passes))
        if place.is_absolute() or ".." in place.parts:
            raise ArtifactError(f"the predictions name the image {image_id!r}, which would lie outside of {folder}")
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return len(image_ids)
