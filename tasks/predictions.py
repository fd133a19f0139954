"""Predictions of a shard as a file, and the shards of a run joined again.

Shards are joined by image id and never by order: a shard that comes late, twice or from another run is noticed. Files
hold plain arrays only; nothing in them is unpickled.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np

from npuq.errors import ArtifactError, Blame, DatasetError
from tasks.protocols import Array, ClassScores, Detections, Prediction

FILE_SCHEMA: Final = 1
_CLASS_SCORES: Final = "class_scores"
_DETECTIONS: Final = "detections"


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardPredictions:
    """What one infer job predicted.

    Attributes:
        pass_name: the pass of the recipe that these samples went through.
        predictions: by image id, in the order they were written.
    """

    pass_name: str
    predictions: Mapping[str, Prediction]


def write_predictions(path: Path, predictions: Iterable[tuple[str, Prediction]], *, pass_name: str = "main") -> int:
    """Write the predictions of a shard; equal predictions give equal bytes.

    Args:
        path: file to write, by custom `predictions.npz`.
        predictions: (image id, prediction), each image once, all of one kind.
        pass_name: the pass these belong to.

    Returns:
        The number of images written.

    Raises:
        DatasetError: an image occurs twice.
        TypeError: both kinds of predictions in one shard.
    """
    image_ids: list[str] = []
    values: list[Prediction] = []
    for image_id, prediction in predictions:
        image_ids.append(image_id)
        values.append(prediction)
    _refuse_doubles(image_ids, path)
    kind = _DETECTIONS if values and isinstance(values[0], Detections) else _CLASS_SCORES
    arrays: dict[str, Any] = {
        "schema": np.int64(FILE_SCHEMA),
        "kind": np.str_(kind),
        "pass_name": np.str_(pass_name),
        "image_ids": np.array(image_ids, dtype=np.str_),
        **(_pack_detections(values) if kind == _DETECTIONS else _pack_scores(values)),
    }
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    return len(image_ids)


def read_predictions(path: Path) -> ShardPredictions:
    """Read the predictions of a shard.

    Raises:
        ArtifactError: the file is damaged, or not a predictions file of this version.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if int(arrays["schema"]) != FILE_SCHEMA:
            raise ArtifactError(
                f"{path.name} has predictions in format {int(arrays['schema'])}, this npuq reads format {FILE_SCHEMA}. "
                "Run the infer job again with this version.",
                retry=False,
            )
        unpack = _unpack_detections if str(arrays["kind"]) == _DETECTIONS else _unpack_scores
        values = unpack(arrays)
        image_ids = [str(image_id) for image_id in arrays["image_ids"]]
        return ShardPredictions(
            pass_name=str(arrays["pass_name"]), predictions=dict(zip(image_ids, values, strict=True))
        )
    except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile) as error:
        raise ArtifactError(f"{path.name} is not a readable predictions file: {error}. Infer again.") from error


def join(files: Sequence[Path], expected_ids: Sequence[str], passes: Sequence[str]) -> dict[str, dict[str, Prediction]]:
    """Join the shards of a run by image id.

    Args:
        files: one per shard, in any order.
        expected_ids: the images that must be there, each exactly once per pass.
        passes: the passes that must be there.

    Returns:
        image id -> pass name -> prediction, in the order of `expected_ids` and `passes`.

    Raises:
        DatasetError: an image is missing, unknown or predicted twice; the message names it.
        ArtifactError: a file cannot be read.
    """
    expected = set(expected_ids)
    found: dict[str, dict[str, Prediction]] = {pass_name: {} for pass_name in passes}
    for path in files:
        shard = read_predictions(path)
        if shard.pass_name not in found:
            raise _mismatch(f"{path.name} holds the pass {shard.pass_name!r}, wanted are {', '.join(passes)}")
        of_pass = found[shard.pass_name]
        unknown = [image_id for image_id in shard.predictions if image_id not in expected]
        if unknown:
            raise _mismatch(f"{path.name} has predictions for images that were not asked for: {_some(unknown)}")
        doubled = [image_id for image_id in shard.predictions if image_id in of_pass]
        if doubled:
            raise _mismatch(
                f"{path.name} predicts images again, another shard of pass {shard.pass_name!r} has: {_some(doubled)}"
            )
        of_pass.update(shard.predictions)
    for pass_name, of_pass in found.items():
        missing = [image_id for image_id in expected_ids if image_id not in of_pass]
        if missing:
            raise _mismatch(f"no shard has a prediction of pass {pass_name!r} for {_some(missing)}")
    return {image_id: {pass_name: found[pass_name][image_id] for pass_name in passes} for image_id in expected_ids}


def _refuse_doubles(image_ids: Sequence[str], path: Path) -> None:
    doubled = [image_id for image_id, count in Counter(image_ids).items() if count > 1]
    if doubled:
        raise _mismatch(f"{path.name} would hold two predictions for {_some(doubled)}")


def _mismatch(what: str) -> DatasetError:
    """Build the error of shards that do not add up: the fleet's bookkeeping, or a dataset that changed under way."""
    return DatasetError(
        f"The predictions do not cover the dataset: {what}. "
        "Check the dataset with `npuq datasets verify`, then retry the run's infer jobs.",
        code="predictions_incomplete",
        blame=Blame.FLEET,
    )


def _some(image_ids: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(image_ids) - shown} more" if len(image_ids) > shown else ""
    return ", ".join(image_ids[:shown]) + more


def _pack_scores(values: Sequence[Prediction]) -> dict[str, Array]:
    rows = [_scores_of(value) for value in values]
    return {"scores": np.stack(rows) if rows else np.empty((0, 0), np.float32)}


def _scores_of(value: Prediction) -> Array:
    if not isinstance(value, ClassScores):
        raise TypeError("a shard holds either detections or class scores, not both")
    return np.asarray(value.scores, dtype=np.float32)


def _unpack_scores(arrays: Mapping[str, Array]) -> list[Prediction]:
    return [ClassScores(scores=row) for row in arrays["scores"]]


def _pack_detections(values: Sequence[Prediction]) -> dict[str, Array]:
    """Concatenate; `offsets[i]:offsets[i + 1]` are the rows of image i."""
    images = [value for value in values if isinstance(value, Detections)]
    if len(images) != len(values):
        raise TypeError("a shard holds either detections or class scores, not both")
    counts = [len(image.scores) for image in images]
    return {
        "boxes": np.concatenate([np.asarray(image.boxes, np.float32).reshape(-1, 4) for image in images]),
        "scores": np.concatenate([np.asarray(image.scores, np.float32).reshape(-1) for image in images]),
        "labels": np.concatenate([np.asarray(image.labels, np.int64).reshape(-1) for image in images]),
        "offsets": np.cumsum([0, *counts], dtype=np.int64),
    }


def _unpack_detections(arrays: Mapping[str, Array]) -> list[Prediction]:
    offsets = arrays["offsets"]
    boxes, scores, labels = arrays["boxes"], arrays["scores"], arrays["labels"]
    return [
        Detections(boxes=boxes[start:stop], scores=scores[start:stop], labels=labels[start:stop])
        for start, stop in itertools.pairwise(offsets)
    ]
