"""SSD-MobileNetV2 on a real fleet: what two chips and several batch sizes find scores as torch alone does."""

from pathlib import Path
from typing import Any, Final

import pytest

from tasks import datasets, demo_voc, registry
from tasks.protocols import Dataset, ReportsFacts
from tests.fleet import in_torch
from tests.fleet.laptop import Person
from tests.services.registered import register_folder

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

RECIPE: Final = registry.get("ssd_mobilenetv2")
PICTURES: Final = 26
DATASET: Final = "shapes-voc"
BATCH_SIZES: Final = (4, 7)  # neither divides the pictures
LIMIT: Final = 7
#: onnxruntime and torch differ in the last digits, and so may the order of two detections.
CLOSE: Final = 2e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset `voc`."""
    folder = tmp_path_factory.mktemp("ssd")
    demo_voc.write(folder / "voc", images=PICTURES, seed=1)
    return folder


@pytest.fixture(scope="module")
def weights(ssd_checkpoint: Path) -> Path:
    """Return a checkpoint."""
    return ssd_checkpoint


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    """Return that dataset, opened without a fleet."""
    return datasets.open_dataset(register_folder(folder / "voc", folder / "manifest.json", dataset_format="voc"))


@pytest.fixture(scope="module")
def person(detecting: Person, folder: Path) -> Person:
    """Return a person at a fleet that knows the dataset."""
    detecting.npuq("datasets", "add", DATASET, str(folder / "voc"), "--format", "voc")
    return detecting


def test_shards_and_batches_score_as_one_process_in_torch(person: Person, weights: Path, dataset: Dataset) -> None:
    """Two chips, the last batch padded, pictures without objects: the same means and the same table of classes."""
    predictions = in_torch.predict(RECIPE, weights, dataset)
    expected = RECIPE.evaluate(predictions, dataset)
    assert expected["mAP"] > 0.5, "nothing would be shown by scores of zero"
    run_id = person.evaluate_at(BATCH_SIZES, RECIPE.id, weights, DATASET, "--precision", "fp32")
    results = person.accuracies(run_id)
    assert sorted(result["batch_size"] for result in results) == sorted(BATCH_SIZES)
    assert isinstance(RECIPE, ReportsFacts)
    table = RECIPE.evaluation_facts(predictions, dataset)["per_class"]
    for result in results:
        assert (result["samples"], result["dataset"], result["emulated"]) == (PICTURES, DATASET, True)
        assert result["metrics"] == pytest.approx(expected, abs=CLOSE)
        shown: dict[str, Any] = person.read("results", "show", result["result_id"])
        assert shown["facts"]["per_class"]["car"]["objects"] == table["car"]["objects"]
        assert shown["facts"]["per_class"]["car"]["AP"] == pytest.approx(table["car"]["AP"], abs=10 * CLOSE)
    assert len({job["device_id"] for job in person.jobs(run_id, "infer")}) == 2


def test_limit_scores_the_first_pictures_only(person: Person, weights: Path, dataset: Dataset) -> None:
    """In half precision, as chips compute by default: close to torch, with the truth of these pictures."""
    few = datasets.open_dataset(dataset.ref, limit=LIMIT)
    expected = RECIPE.evaluate(in_torch.predict(RECIPE, weights, few), few)
    run_id = person.evaluate_at(BATCH_SIZES[:1], RECIPE.id, weights, DATASET, "--limit", str(LIMIT))
    for result in person.accuracies(run_id):
        assert result["samples"] == LIMIT
        assert result["metrics"] == pytest.approx(expected, abs=0.05)
