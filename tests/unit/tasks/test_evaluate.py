"""Evaluation joins the shards of all infer jobs and scores them with units."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npuq.errors import DatasetError, DatasetMissingError, InvalidRequestError
from npuq.states import JobKind
from tasks import datasets, evaluate, registry
from tasks.predictions import write_predictions
from tasks.protocols import ClassScores, Detections, Prediction
from tasks.recipes.mobilenet_v1 import MobileNetV1
from tasks.steps import DatasetRef, ImageListRef, Metric, StepOutcome
from tests.unit.tasks.recording_context import host_context

TRUTH = {"a": 3, "b": 999, "c": 0, "d": 500}


@pytest.fixture
def dataset(imagenet_folder: Callable[..., Path], registered: Callable[[Path], DatasetRef]) -> DatasetRef:
    """Return a dataset of four images."""
    labels = "".join(f"{image_id}.JPEG {label}\n" for image_id, label in TRUTH.items())
    return registered(imagenet_folder({f"{image_id}.JPEG": b"1" for image_id in TRUTH}, labels))


def scored(label: int, *, rank: int) -> ClassScores:
    """Return scores that have a class at a rank, from 0."""
    scores = np.zeros(1000, dtype=np.float32)
    scores[label] = 1
    scores[[(label + offset) % 1000 for offset in range(1, rank + 1)]] = 2
    return ClassScores(scores=scores)


def write_shards(folder: Path, *shards: Sequence[tuple[str, int]]) -> tuple[Path, ...]:
    """Write one file per shard of (image id, rank of the truth)."""
    paths = []
    for number, shard in enumerate(shards):
        path = folder / f"{number}.npz"
        write_predictions(path, [(image_id, scored(TRUTH[image_id], rank=rank)) for image_id, rank in shard])
        paths.append(path)
    return tuple(paths)


def run(folder: Path, dataset: DatasetRef | None, files: tuple[Path, ...], **params: Any) -> StepOutcome:
    inputs = {"predictions": files}
    return evaluate.run(host_context(JobKind.EVALUATE, folder, inputs=inputs, params=params, dataset=dataset))


def test_metrics_have_units_and_the_counts_behind_them(dataset: DatasetRef, tmp_path: Path) -> None:
    """Two right, one at rank three, one at rank six: Top-1 50 %, Top-5 75 %."""
    files = write_shards(tmp_path, [("c", 2), ("d", 5)], [("a", 0), ("b", 0)])
    outcome = run(tmp_path, dataset, files)
    assert outcome.metrics == {
        "top1": Metric(value=50.0, unit="percent"),
        "top5": Metric(value=75.0, unit="percent"),
    }
    assert (outcome.facts["samples"], outcome.facts["correct_at_rank"]) == (4, [2, 2, 3, 3, 3])
    assert outcome.facts["guide_report"]["value"][2] == {"key": "Top1 accuracy", "value": "50.0%"}
    assert StepOutcome.from_json(outcome.to_json()) == outcome


def test_order_and_cut_of_shards_do_not_matter(dataset: DatasetRef, tmp_path: Path) -> None:
    """However many chips shared the work, the score is the same."""
    results = []
    for name, shards in {
        "one": [[("a", 0), ("b", 1), ("c", 2), ("d", 9)]],
        "many": [[("d", 9)], [("b", 1), ("a", 0)], [("c", 2)]],
    }.items():
        (tmp_path / name).mkdir()
        results.append(run(tmp_path, dataset, write_shards(tmp_path / name, *shards)))
    assert results[0] == results[1]


class TwoPasses(MobileNetV1):
    """A recipe that trusts the flipped pass, if the original one is of the same image."""

    passes = ("original", "flipped")

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return the flipped pass."""
        original, flipped = predictions["original"], predictions["flipped"]
        assert isinstance(original, ClassScores)
        assert isinstance(flipped, ClassScores)
        assert original.scores.argmin() == flipped.scores.argmin()
        return flipped


def test_passes_are_merged_by_image_whatever_their_order(
    dataset: DatasetRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe gets both predictions of one image; an image that one pass lacks fails the job and is named."""
    monkeypatch.setattr(registry, "get", lambda *_: TwoPasses())

    def shard(name: str, pass_name: str, images: str, rank: int) -> Path:
        values = []
        for image_id in images:
            scores = scored(TRUTH[image_id], rank=rank).scores.copy()
            scores[(TRUTH[image_id] + 500) % 1000] = -1  # says which image it is of
            values.append((image_id, ClassScores(scores=scores)))
        write_predictions(tmp_path / name, values, pass_name=pass_name)
        return tmp_path / name

    files = [shard("1", "flipped", "dc", 0), shard("2", "original", "abcd", 9), shard("3", "flipped", "ba", 0)]
    assert run(tmp_path, dataset, tuple(files)).metrics["top1"].value == 100.0
    with pytest.raises(DatasetError, match="no shard has a prediction of pass 'flipped' for a, b"):
        run(tmp_path, dataset, tuple(files[:2]))


def test_limit_scores_the_first_images_only(dataset: DatasetRef, tmp_path: Path) -> None:
    """The denominator is the limit."""
    outcome = run(tmp_path, dataset, write_shards(tmp_path, [("a", 0), ("b", 1)]), limit=2)
    assert (outcome.metrics["top1"].value, outcome.facts["samples"]) == (50.0, 2)


def part(dataset: DatasetRef, *image_ids: str) -> DatasetRef:
    """Return the part of the dataset that a list names."""
    path = dataset.manifest.with_name("part.txt")
    path.write_text("\n".join(image_ids))
    return replace(dataset, images=ImageListRef(path=path, digest="1" * 64, count=len(image_ids)))


def test_a_list_scores_its_images_only(dataset: DatasetRef, tmp_path: Path) -> None:
    """The denominator is the list's length, and how many images there are is told beside it."""
    outcome = run(tmp_path, part(dataset, "d", "b"), write_shards(tmp_path, [("b", 0)], [("d", 9)]))
    assert outcome.metrics["top1"].value == 50.0
    assert (outcome.facts["samples"], outcome.facts["dataset_samples"]) == (2, 4)


@pytest.mark.parametrize(("shard", "said"), [("abd", "not asked for: a"), ("b", "for d")])
def test_a_list_wants_the_predictions_of_its_images(dataset: DatasetRef, tmp_path: Path, shard: str, said: str) -> None:
    """Neither more nor fewer."""
    files = write_shards(tmp_path, [(image_id, 0) for image_id in shard])
    with pytest.raises(DatasetError, match=said):
        run(tmp_path, part(dataset, "d", "b"), files)


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        ([[("a", 0), ("b", 0), ("c", 0)]], "for d"),
        ([[("a", 0), ("b", 0)], [("b", 0), ("c", 0), ("d", 0)]], "another shard of pass 'main' has: b"),
    ],
)
def test_image_lost_or_doubled_on_the_way_fails_the_job(
    dataset: DatasetRef, tmp_path: Path, shards: list[list[tuple[str, int]]], said: str
) -> None:
    """No score is given for less, or more, than the dataset."""
    with pytest.raises(DatasetError, match=said):
        run(tmp_path, dataset, write_shards(tmp_path, *shards))


def test_prediction_of_an_image_beyond_the_limit_is_refused(dataset: DatasetRef, tmp_path: Path) -> None:
    """Shards of another limit do not belong to this run."""
    with pytest.raises(DatasetError, match="not asked for: b"):
        run(tmp_path, dataset, write_shards(tmp_path, [("a", 0), ("b", 0)]), limit=1)


def test_dataset_absent_on_this_host_is_told(dataset: DatasetRef, tmp_path: Path) -> None:
    """The label file is needed where the scoring happens."""
    files = write_shards(tmp_path, [("a", 0)])
    dataset.root.rename(tmp_path / "unmounted")
    with pytest.raises(DatasetMissingError, match="not on host h1"):
        run(tmp_path, dataset, files)


@pytest.mark.parametrize(
    ("with_dataset", "with_files", "params", "said"),
    [
        (False, True, {}, "needs a dataset"),
        (True, False, {}, "needs the predictions"),
        (True, True, {"passes": ["flipped"]}, "scored on the passes main"),
    ],
)
def test_request_that_lacks_something_says_what(
    dataset: DatasetRef, tmp_path: Path, *, with_dataset: bool, with_files: bool, params: dict[str, Any], said: str
) -> None:
    """Nothing is guessed."""
    files = write_shards(tmp_path, [("a", 0)]) if with_files else ()
    with pytest.raises(InvalidRequestError, match=said):
        run(tmp_path, dataset if with_dataset else None, files, **params)


@pytest.mark.parametrize(
    ("predictions", "said"),
    [
        ({"a": scored(3, rank=0)}, r"3 of 4 images without a prediction \(b, c, d\)"),
        ({key: scored(0, rank=0) for key in [*TRUTH, "x"]}, r"1 predictions without an image \(x\)"),
        (
            {key: Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0)) for key in TRUTH},
            "not class scores",
        ),
    ],
)
def test_recipe_itself_refuses_what_does_not_match(
    dataset: DatasetRef, predictions: dict[str, Prediction], said: str
) -> None:
    """Called without the step, the recipe still scores nothing but the whole dataset."""
    with pytest.raises(DatasetError, match=said):
        registry.get("mobilenet_v1").evaluate(predictions, datasets.open_dataset(dataset))
