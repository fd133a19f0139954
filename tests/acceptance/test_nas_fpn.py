"""NAS-FPN on a real fleet: what two chips find, picture by picture as in the guide, scores as torch alone does."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tasks import datasets, demo_coco, registry, torch_memory, torch_threads
from tasks.protocols import ReportsFacts
from tasks.recipes.nas_fpn import demo_weights
from tests.fleet import in_torch
from tests.fleet.laptop import Person
from tests.services.registered import register_folder

#: 270 billion operations a picture, four seconds of a core; the model's files have 240 megabytes.
LIMIT_SECONDS: Final = 400.0
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(2 * LIMIT_SECONDS)]

RECIPE: Final = registry.get("nas_fpn")
DATASET: Final = "few"
PICTURES: Final = 2
SEED: Final = 13  #: of pictures of which one shows three objects, the other none
#: onnxruntime and torch differ in the last digits, and so may the order of two detections.
CLOSE: Final = 2e-3


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a dataset `coco` and a checkpoint; none of its gigabytes is kept."""
    with tempfile.TemporaryDirectory(prefix="nas_fpn") as name:
        folder = Path(name)
        torch_memory.keep_blocks()
        torch_threads.use_few_threads()
        demo_coco.write(folder / "coco", images=PICTURES, seed=SEED)
        demo_weights.checkpoint(folder, pictures=32).rename(folder / "nas_fpn.pth")
        yield folder


def test_two_chips_score_as_one_process_in_torch(detecting: Person, folder: Path) -> None:
    """A picture without an object among them: the same twelve numbers, the same table, the guide's own report."""
    weights = folder / "nas_fpn.pth"
    detecting.npuq("datasets", "add", DATASET, str(folder / "coco"), "--format", "coco")
    command = ("submit", "evaluate", RECIPE.id, "--weights", str(weights), "--dataset", DATASET)
    run_id = detecting.npuq(*command, "--batch-sizes", "1", "--precision", "fp32", "-o", "name").stdout.strip()
    dataset = datasets.open_dataset(register_folder(folder / "coco", folder / "m.json", dataset_format="coco"))
    predictions = in_torch.predict(RECIPE, weights, dataset)  # while the fleet exports and converts
    expected = RECIPE.evaluate(predictions, dataset)
    assert expected["mAP"] > 0.3, "nothing would be shown by scores of zero"
    detecting.wait(run_id, limit_seconds=LIMIT_SECONDS)
    result = detecting.accuracy(run_id)
    assert (result["samples"], result["batch_size"], result["emulated"]) == (PICTURES, 1, True)
    assert result["metrics"] == pytest.approx(expected, abs=CLOSE)
    assert isinstance(RECIPE, ReportsFacts)
    facts = RECIPE.evaluation_facts(predictions, dataset)
    shown = detecting.read("results", "show", result["result_id"])["facts"]
    assert len(shown["guide_report"]) == len(facts["guide_report"])
    assert shown["per_category"].keys() == facts["per_category"].keys()
    assert len({job["device_id"] for job in detecting.jobs(run_id, "infer")}) == 2
