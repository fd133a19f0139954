"""EfficientDet-D0 on a real fleet: what two chips and two exported batch sizes find scores as torch alone does."""

from pathlib import Path
from typing import Any, Final

import pytest

from tasks import datasets, demo_coco, registry
from tasks.protocols import Dataset, ReportsFacts
from tests.fleet import in_torch
from tests.fleet.laptop import Person
from tests.services.missing import missing
from tests.services.registered import register_folder

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(360)]

RECIPE: Final = registry.get("efficientdet_d0")
PICTURES: Final = 7
DATASET: Final = "shapes-coco"
BATCH_SIZES: Final = (2, 3)  # neither divides the pictures
#: onnxruntime and torch differ in the last digits, and so may the order of two detections.
CLOSE: Final = 2e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset `coco`."""
    try:
        import onnxslim  # noqa: F401 - is it there?
    except ImportError:
        missing("onnxslim is not installed")
    folder = tmp_path_factory.mktemp("efficientdet")
    demo_coco.write(folder / "coco", images=PICTURES, seed=1)
    return folder


@pytest.fixture(scope="module")
def weights(efficientdet_checkpoint: Path) -> Path:
    """Return a checkpoint."""
    return efficientdet_checkpoint


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    """Return that dataset, opened without a fleet."""
    return datasets.open_dataset(register_folder(folder / "coco", folder / "manifest.json", dataset_format="coco"))


@pytest.fixture(scope="module")
def person(detecting: Person, folder: Path) -> Person:
    """Return a person at a fleet that knows the dataset."""
    detecting.npuq("datasets", "add", DATASET, str(folder / "coco"), "--format", "coco")
    return detecting


def test_shards_and_batches_score_as_one_process_in_torch(person: Person, weights: Path, dataset: Dataset) -> None:
    """Two chips, one model per batch size, the last batch padded: the same twelve numbers, the same table."""
    predictions = in_torch.predict(RECIPE, weights, dataset)
    expected = RECIPE.evaluate(predictions, dataset)
    assert expected["mAP"] > 0.2, "nothing would be shown by scores of zero"
    run_id = person.evaluate_at(BATCH_SIZES, RECIPE.id, weights, DATASET, "--precision", "fp32")
    assert len(person.jobs(run_id, "export")) == len(BATCH_SIZES)
    results = person.accuracies(run_id)
    assert sorted(result["batch_size"] for result in results) == sorted(BATCH_SIZES)
    assert isinstance(RECIPE, ReportsFacts)
    table = RECIPE.evaluation_facts(predictions, dataset)["per_category"]
    for result in results:
        assert (result["samples"], result["dataset"], result["emulated"]) == (PICTURES, DATASET, True)
        assert result["metrics"] == pytest.approx(expected, abs=CLOSE)
        shown: dict[str, Any] = person.read("results", "show", result["result_id"])
        assert shown["facts"]["per_category"].keys() == table.keys()
        for name, row in table.items():
            assert shown["facts"]["per_category"][name] == pytest.approx(row, abs=10 * CLOSE)
    assert len({job["device_id"] for job in person.jobs(run_id, "infer")}) == 2


def test_mixed_precision_takes_the_mix_list_with_it(person: Person, weights: Path) -> None:
    """The guide's way: what the chip may not compute in half precision is told to ATC."""
    command = ("submit", "convert", RECIPE.id, "--weights", str(weights), "--batch-sizes", str(BATCH_SIZES[0]))
    run_id = person.npuq(*command, "--precision", "mixed", "-o", "name").stdout.strip()
    person.wait(run_id)
    (job,) = person.jobs(run_id, "convert")
    command_line = person.read("jobs", "show", job["job_id"])["facts"]["command"]
    assert any(word.startswith("--modify_mixlist=") for word in command_line)
    assert "--precision_mode=allow_mix_precision" in command_line
