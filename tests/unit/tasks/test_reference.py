"""The reference: a model's ONNX on the CPU, scored like any other predictions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npuq.errors import InvalidRequestError, ToolError
from npuq.states import JobKind
from tasks import evaluate, registry
from tasks.protocols import Array, ClassScores, Dataset, Prediction, Sample
from tasks.steps import DatasetRef, Metric, StepOutcome, StepRequest
from tests.services.oms import write_onnx
from worker.host_process import HostContext

TRUTH = {"a": 0, "b": 1, "c": 2, "d": 3, "e": 0}
CLASSES = 4


class FakeRecipe:
    """An image of a class is a row with a one there, of pass `flipped` the other way round; counts the top class."""

    passes = ("main", "flipped")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def preprocess(self, image_path: Path, pass_name: str = "main") -> Sample:
        """Return the row of the image's name."""
        row = np.eye(CLASSES, dtype=np.float32)[TRUTH[image_path.stem]]
        return Sample(array=row[::-1].copy() if pass_name == "flipped" else row, meta={"pass": pass_name})

    def postprocess(
        self, outputs: Sequence[Any], metas: Sequence[Mapping[str, Any]], pass_name: str = "main"
    ) -> list[Prediction]:
        """Return the rows, turned back."""
        assert len(outputs[0]) == len(metas)
        self.batches.append(len(metas))
        return [ClassScores(scores=row[::-1] if pass_name == "flipped" else row) for row in outputs[0]]

    def merge(self, predictions: Mapping[str, Prediction]) -> Prediction:
        """Return the sum."""
        scores = [each.scores for each in predictions.values() if isinstance(each, ClassScores)]
        return ClassScores(scores=np.sum(scores, axis=0))

    def evaluate(self, predictions: Mapping[str, Prediction], dataset: Dataset) -> dict[str, float]:
        """Return the share of images whose top class is theirs."""
        del dataset
        right = [
            isinstance(p, ClassScores) and int(p.scores.argmax()) == TRUTH[name] for name, p in predictions.items()
        ]
        return {"top1": 100.0 * sum(right) / len(right)}


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> FakeRecipe:
    """The only recipe there is."""
    fake = FakeRecipe()
    monkeypatch.setattr(registry, "get", lambda *_: fake)
    return fake


@pytest.fixture
def dataset(imagenet_folder: Callable[..., Path], registered: Callable[[Path], DatasetRef]) -> DatasetRef:
    """Five images."""
    labels = "".join(f"{image_id}.JPEG {label}\n" for image_id, label in TRUTH.items())
    return registered(imagenet_folder({f"{image_id}.JPEG": b"1" for image_id in TRUTH}, labels))


def run(
    folder: Path, dataset: DatasetRef, *models: Path, told: list[tuple[int, int, str]], **params: Any
) -> StepOutcome:
    """Run the step as a host does."""
    request = StepRequest(
        job_id="0" * 32,
        attempt=1,
        kind=JobKind.EVALUATE,
        recipe="any",
        params={"reference": True, "batch_size": 2, **params},
        inputs={"onnx": models},
        input_digests={"onnx": ("0" * 64,)},
        workdir=folder,
        dataset=dataset,
    )
    return evaluate.run(HostContext(request, lambda *progress: told.append(progress)))


@pytest.mark.parametrize("axis", ["N", 2])
def test_every_image_is_predicted_in_every_pass(
    recipe: FakeRecipe, dataset: DatasetRef, tmp_path: Path, axis: str | int
) -> None:
    """In batches of the job, the last filled up; the model's batch axis is open or fixed."""
    model = write_onnx(tmp_path / "m.onnx", shape=(axis, CLASSES))
    told: list[tuple[int, int, str]] = []
    outcome = run(tmp_path, dataset, model, told=told)
    assert outcome.metrics == {"top1": Metric(value=100.0, unit="percent")}
    assert outcome.facts["samples"] == 5
    assert recipe.batches == [2, 2, 1] * 2
    assert (10, 10, "images") in told


class AnySize(FakeRecipe):
    """Shows its network each image in two sizes, of which it takes the mean, and says how wide they were."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[tuple[int, ...]] = []

    def predict_picture(self, image_path: Path, run: Callable[[Array], Sequence[Array]]) -> Mapping[str, Prediction]:
        """Return the row of the image in both passes."""
        row = self.preprocess(image_path).array[None, None, None]
        shown = [run(np.repeat(row, times, axis=2))[0] for times in (1, 1 + TRUTH[image_path.stem])]
        self.widths.append(tuple(each.shape[2] for each in shown))
        scores = np.mean([each.mean(axis=(0, 1, 2)) for each in shown], axis=0)
        return {"main": ClassScores(scores=scores), "flipped": ClassScores(scores=scores * 0)}


def test_a_recipe_may_choose_the_size_of_each_input(
    monkeypatch: pytest.MonkeyPatch, dataset: DatasetRef, tmp_path: Path
) -> None:
    """One input at a time, whatever its size; the model's axes are open."""
    recipe = AnySize()
    monkeypatch.setattr(registry, "get", lambda *_: recipe)
    model = write_onnx(tmp_path / "m.onnx", shape=(1, 1, "H", CLASSES))
    told: list[tuple[int, int, str]] = []
    outcome = run(tmp_path, dataset, model, told=told, batch_size=1)
    assert outcome.metrics == {"top1": Metric(value=100.0, unit="percent")}
    assert recipe.widths == [(1, 1 + label) for label in TRUTH.values()]
    assert (5, 5, "images") in told


def test_only_so_many_images(recipe: FakeRecipe, dataset: DatasetRef, tmp_path: Path) -> None:
    """As for predictions from chips."""
    model = write_onnx(tmp_path / "m.onnx", shape=("N", CLASSES))
    assert run(tmp_path, dataset, model, told=[], limit=3).facts["samples"] == 3
    assert recipe.batches == [2, 1] * 2


def test_a_model_of_another_batch_size_is_refused(recipe: FakeRecipe, dataset: DatasetRef, tmp_path: Path) -> None:
    """It was exported for one."""
    del recipe
    model = write_onnx(tmp_path / "m.onnx", shape=(4, CLASSES))
    with pytest.raises(InvalidRequestError, match="batch size 4, the job says 2"):
        run(tmp_path, dataset, model, told=[])


def test_what_is_no_onnx_is_the_inputs_fault(recipe: FakeRecipe, dataset: DatasetRef, tmp_path: Path) -> None:
    """And exactly one file is needed."""
    del recipe
    damaged = tmp_path / "m.onnx"
    damaged.write_bytes(b"no model")
    with pytest.raises(ToolError, match="onnxruntime cannot load"):
        run(tmp_path, dataset, damaged, told=[])
    with pytest.raises(InvalidRequestError, match="one ONNX file"):
        run(tmp_path, dataset, told=[])
