"""PyramidBox on a real fleet: two chips, at two passes at the same time, score as one process in torch does."""

from itertools import product
from pathlib import Path
from typing import Any, Final

import onnx
import pytest
import torch

from tasks import datasets, demo_widerface, registry, torch_memory, torch_threads
from tasks.protocols import Dataset, Detections, Prediction, ReportsFacts
from tasks.recipes.pyramidbox import demo_weights
from tests.fleet.laptop import Person
from tests.services.missing import missing
from tests.services.registered import register_folder

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(360)]

#: An image of 1000 x 1000 pixels takes minutes of this machine where it takes seconds of a chip.
OPTIONS: Final = {"side": str(demo_weights.SIDE)}
RECIPE: Final = registry.get("pyramidbox", OPTIONS)
PICTURES: Final = 4
#: onnxruntime and torch differ in the last digits, and so may the order of two faces.
CLOSE: Final = 2e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset `faces` and a checkpoint."""
    try:
        import onnxslim  # noqa: F401 - is it there?
    except ImportError:
        missing("onnxslim is not installed")
    folder = tmp_path_factory.mktemp("pyramidbox")
    torch_memory.keep_blocks()
    torch_threads.use_few_threads()
    demo_widerface.write(folder / "faces", images=PICTURES, seed=1)
    demo_weights.checkpoint(folder, pictures=12).rename(folder / "weights.pth")
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    """Return that dataset, opened without a fleet."""
    return datasets.open_dataset(
        register_folder(folder / "faces", folder / "manifest.json", dataset_format="widerface")
    )


@pytest.fixture(scope="module")
def person(detecting: Person, folder: Path) -> Person:
    """Return a person at a fleet that knows the dataset."""
    detecting.npuq("datasets", "add", "faces", str(folder / "faces"), "--format", "widerface")
    return detecting


def in_torch(weights: Path, dataset: Dataset) -> dict[str, Prediction]:
    """Return what the checkpoint predicts in this process, picture by picture, one pass after the other."""
    network = RECIPE.network()
    RECIPE.load_weights(network, weights)
    found: dict[str, Prediction] = {}
    for image_id in dataset.image_ids:
        of_passes: dict[str, Prediction] = {}
        for pass_name in RECIPE.passes:
            sample = RECIPE.preprocess(dataset.image_path(image_id), pass_name)
            with torch.inference_mode():
                outputs = [output.numpy() for output in network(torch.from_numpy(sample.array[None]))]
            (of_passes[pass_name],) = RECIPE.postprocess(outputs, [sample.meta], pass_name)
        found[image_id] = RECIPE.merge(of_passes)
    return found


def at_once(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two chips worked on two shards at the same time."""
    apart = one["started_at"] > other["finished_at"] or other["started_at"] > one["finished_at"]
    return not apart and one["device_id"] != other["device_id"]


def check_graph(path: Path) -> None:
    """What is exported has the promised names and shapes, and none that are computed."""
    model = onnx.load(path)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 11)]
    specs = [(spec.name, spec.at_batch(1)) for spec in (*RECIPE.inputs, *RECIPE.outputs)]
    tensors = [*model.graph.input, *model.graph.output]
    found = [(item.name, tuple(axis.dim_value for axis in item.type.tensor_type.shape.dim)) for item in tensors]
    assert found == specs
    assert not {"Shape", "Gather", "Loop", "If"} & {node.op_type for node in model.graph.node}
    (mode,) = {
        item.s.decode()
        for node in model.graph.node
        if node.op_type == "Resize"
        for item in node.attribute
        if item.name == "coordinate_transformation_mode"
    }
    assert mode == "align_corners"


def test_two_chips_on_two_passes_score_as_one_process_in_torch(
    person: Person, folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    """In full precision without being asked, the passes on two chips at the same time: the same three means."""
    predictions = in_torch(folder / "weights.pth", dataset)
    assert all(isinstance(found, Detections) and len(found.scores) for found in predictions.values())
    expected = RECIPE.evaluate(predictions, dataset)
    assert min(expected.values()) > 0.2, "nothing would be shown by scores of zero"
    command = ("submit", "evaluate", RECIPE.id, "--weights", str(folder / "weights.pth"), "--dataset", "faces")
    options = [part for name, value in OPTIONS.items() for part in ("--recipe-option", f"{name}={value}")]
    run_id = person.npuq(*command, *options, "-o", "name").stdout.strip()
    person.wait(run_id)
    (result,) = person.accuracies(run_id)
    assert (result["samples"], result["precision"], result["emulated"]) == (PICTURES, "fp32", True)
    assert result["metrics"] == pytest.approx(expected, abs=CLOSE)
    shown: dict[str, Any] = person.read("results", "show", result["result_id"])
    assert isinstance(RECIPE, ReportsFacts)
    facts = RECIPE.evaluation_facts(predictions, dataset)
    for name in ("AP_easy_at_0.4", "AP_medium_at_0.4", "AP_hard_at_0.4"):
        assert shown["facts"][name] == pytest.approx(facts[name], abs=CLOSE)
    assert shown["facts"]["params"]["recipe_options"] == OPTIONS
    person.npuq("results", "files", result["result_id"], str(tmp_path / "files"))
    names = {path.relative_to(tmp_path / "files").with_suffix("").as_posix() for path in tmp_path.rglob("*.txt")}
    assert names == set(dataset.image_ids)
    shards = person.jobs(run_id, "infer")
    original, flipped = ([shard for shard in shards if shard["params"]["pass"] == name] for name in RECIPE.passes)
    assert any(at_once(*pair) for pair in product(original, flipped))
    (export,) = person.jobs(run_id, "export")
    (digest,) = person.read("jobs", "show", export["job_id"])["outputs"]["onnx"]
    check_graph(person.fleet.client.store.fetch(digest))
