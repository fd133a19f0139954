"""EfficientDet-D0 against the numbers that effdet and the guide's scripts themselves produced."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import datasets, datasets_coco, export, registry
from tasks.protocols import Array, Detections, Prediction, Recipe
from tests.goldens import trees, weights
from tests.services.missing import missing
from tests.services.registered import register_folder
from tests.unit.tasks.memory_coco import detections

#: The network takes seconds where other tests run beside.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["compact", "whole"], scope="module")
def golden(request: pytest.FixtureRequest) -> Path:
    """Return the golden data of this recipe."""
    folder = (trees.COMPACT if request.param == "compact" else trees.whole_tree()) / "efficientdet_d0"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    """Return the recipe."""
    return registry.get("efficientdet_d0")


@pytest.fixture(scope="module")
def network(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """Return the network with the golden weights, loaded from the published form: a bare state dict."""
    facts = read_json(golden / "forward.json")
    arrays = weights.state_dict("efficientdet_d0", facts["seed"], read_json(golden / "state_dict.json")["state_dict"])
    assert weights.digest(arrays) == facts["weights_sha256"]
    path = tmp_path_factory.mktemp("weights") / "d0.pth"
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}, path)
    recipe = registry.get("efficientdet_d0")
    network = recipe.network()
    recipe.load_weights(network, path)
    return network


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def golden_input(golden: Path, case: str) -> Array:
    facts = read_json(golden / "forward.json")
    told = facts["cases"][case]["input"]
    batch = weights.input_tensor(facts["seed"], f"forward:{case}", tuple(told["shape"]))
    assert hashlib.sha256(batch.tobytes()).hexdigest() == told["sha256"]
    return batch


def compare_outputs(golden: Path, case: str, outputs: list[Array]) -> None:
    """Compare what is stored of each output, whole or sampled, within the tolerance told for it."""
    facts = read_json(golden / "forward.json")
    tolerances = facts["agreement"][case]["suggested_atol_per_output"]
    with np.load(golden / "forward.npz", allow_pickle=False) as archive:
        for entry, ours, tolerance in zip(facts["cases"][case]["outputs"], outputs, tolerances, strict=True):
            name = f"{case}__{entry['name']}"
            assert list(ours.shape) == entry["shape"]
            if name in archive:
                index, expected = np.arange(ours.size), archive[name].reshape(-1)
            else:
                index, expected = archive[f"{name}__index"], archive[f"{name}__value"]
            np.testing.assert_allclose(ours.reshape(-1)[index], expected, rtol=0, atol=tolerance, err_msg=name)


def rows(found: Prediction) -> Array:
    """Return float64 (N, 6): x1 y1 x2 y2 score category."""
    assert isinstance(found, Detections)
    return np.column_stack([found.boxes, found.scores, found.labels]).astype(np.float64)


def unmatched(ours: Array, expected: Array, *, pixels: float, score: float) -> int:
    """Return how many expected rows have no partner of their own among ours; the order is free."""
    tolerance = np.array([pixels] * 4 + [score, 0])
    free = np.ones(len(ours), dtype=bool)
    count = 0
    for row in expected:
        fitting = np.flatnonzero(free & (np.abs(ours - row) <= tolerance).all(axis=1))
        free[fitting[:1]] = False
        count += not fitting.size
    return count


def test_keys_shapes_and_dtypes_are_the_published_ones(golden: Path, recipe: Recipe) -> None:
    """A published checkpoint fits the network key by key, in the same order."""
    published = read_json(golden / "state_dict.json")
    state = recipe.network().state_dict()
    ours = [(key, list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in state.items()]
    assert ours == [(entry["key"], entry["shape"], entry["dtype"]) for entry in published["state_dict"]]
    assert sum(parameter.numel() for parameter in recipe.network().parameters()) == published["parameters"] == 3_880_067


@pytest.mark.parametrize("case", ["full", "small"])
def test_forward_gives_the_upstream_values(golden: Path, network: torch.nn.Module, case: str) -> None:
    """The network computes what the upstream network computes, at its own size and at another."""
    with torch.inference_mode():
        outputs = network(torch.from_numpy(golden_input(golden, case)))
    compare_outputs(golden, case, [output.numpy() for output in outputs])


def test_onnx_gives_the_upstream_values(golden: Path, recipe: Recipe, network: torch.nn.Module, tmp_path: Path) -> None:
    """What ATC gets, simplified, computes the same in onnxruntime, under the names that the recipe tells."""
    if golden.parent != trees.COMPACT:
        pytest.skip("once is enough: the compact copy has the same weights, and samples of the same outputs")
    try:
        import onnxslim  # noqa: F401 - is it there?
    except ImportError:
        missing("onnxslim is not installed")
    import onnx
    import onnxruntime

    export.export_checked(recipe, network, tmp_path / "d0.onnx", 1)
    opsets = onnx.load(tmp_path / "d0.onnx").opset_import
    assert [(item.domain, item.version) for item in opsets] == [("", 11)], "simplifying has not changed it"
    session = onnxruntime.InferenceSession(tmp_path / "d0.onnx", providers=["CPUExecutionProvider"])
    assert [(item.name, tuple(item.shape)) for item in session.get_inputs()] == [("x.1", (1, 3, 512, 512))]
    assert [(item.name, tuple(item.shape)) for item in session.get_outputs()] == [
        (spec.name, spec.at_batch(1)) for spec in recipe.outputs
    ]
    outputs = session.run(None, {"x.1": golden_input(golden, "full")})
    compare_outputs(golden, "full", [np.asarray(output) for output in outputs])


def test_preprocessing_is_the_scripts_bit_for_bit(golden: Path, recipe: Recipe) -> None:
    """Every picture becomes the very bytes that the guide's script writes, and keeps its own scale and size."""
    listed = read_json(golden / "preprocess" / "expected.json")["images"]
    assert listed
    for item in listed:
        sample = recipe.preprocess(golden / "preprocess" / "images" / item["file"])
        (tensor,) = item["tensors"]
        assert (str(sample.array.dtype), [1, *sample.array.shape]) == ("float32", tensor["shape"])
        assert hashlib.sha256(sample.array.tobytes()).hexdigest() == tensor["sha256"], item["file"]
        told = item["metadata"]
        assert np.float32(sample.meta["scale"]) == np.float32(told["img_scale_float32"])
        assert [sample.meta["width"], sample.meta["height"]] == told["img_size_wh"]
        assert json.loads(json.dumps(sample.meta)) == sample.meta


def head_maps(archive: Any, number: int, base_logit: float) -> list[Array]:
    """Return the ten raw outputs of the network for a golden picture, batch axis included."""
    return [
        level
        for kind, base, width in (("cls", base_logit, 90), ("box", 0.0, 4))
        for level in weights.sparse_maps(
            archive[f"img{number}_{kind}_index"],
            archive[f"img{number}_{kind}_value"],
            base=base,
            sizes=[64, 32, 16, 8, 4],
            anchors=9,
            width=width,
        )
    ]


def test_detections_are_the_scripts(golden: Path, recipe: Recipe) -> None:
    """Of the golden outputs, one by one and as one batch, come the golden rows."""
    facts = read_json(golden / "postprocess.json")
    batch, metas, expected = [], [], []
    with np.load(golden / "postprocess.npz", allow_pickle=False) as archive:
        for number, image in enumerate(facts["images"]):
            if f"img{number}_cls_index" in archive:  # the compact copy has one picture
                batch.append(head_maps(archive, number, facts["raw_outputs"]["base_logit"]))
                metas.append({"scale": image["img_scale_float32"], "width": image["width"], "height": image["height"]})
                expected.append([row for row in archive["detections"][number].astype(np.float64) if row[4] > 0])
    together = recipe.postprocess([np.concatenate(levels) for levels in zip(*batch, strict=True)], metas)
    assert together
    for outputs, meta, found, wanted in zip(batch, metas, together, expected, strict=True):
        (alone,) = recipe.postprocess(outputs, [meta])
        assert len(rows(found)) == len(rows(alone)) == len(wanted)
        assert unmatched(rows(found), np.array(wanted), pixels=5e-3, score=1e-6) == 0
        assert unmatched(rows(alone), np.array(wanted), pixels=5e-3, score=1e-6) == 0


def test_detections_are_those_of_the_scripts_json(golden: Path, recipe: Recipe) -> None:
    """Nothing is left to drop between the detections and the file that is scored."""
    facts = read_json(golden / "postprocess.json")
    number, image = len(facts["images"]) - 1, facts["images"][-1]
    with np.load(golden / "postprocess.npz", allow_pickle=False) as archive:
        outputs = head_maps(archive, number, facts["raw_outputs"]["base_logit"])
    meta = {"scale": image["img_scale_float32"], "width": image["width"], "height": image["height"]}
    (found,) = recipe.postprocess(outputs, [meta])
    listed = [row for row in facts["result_json"] if row["image_id"] == image["image_id"]]
    expected = np.array([[*row["bbox"], row["score"], row["category_id"]] for row in listed])
    expected[:, 2:4] += expected[:, :2]
    assert len(rows(found)) == len(listed) > 0
    assert unmatched(rows(found), expected, pixels=5e-3, score=1e-6) == 0


def test_picture_becomes_the_upstream_detections(golden: Path, recipe: Recipe, network: torch.nn.Module) -> None:
    """The whole chain: file, network, boxes. A near tie may fall differently."""
    facts = read_json(golden / "end_to_end.json")
    sample = recipe.preprocess(golden / facts["picture"])
    with torch.inference_mode():
        outputs = [output.numpy() for output in network(torch.from_numpy(sample.array)[None])]
    (found,) = recipe.postprocess(outputs, [sample.meta])
    with np.load(golden / "end_to_end.npz", allow_pickle=False) as archive:
        expected = archive["rows"].astype(np.float64)
    assert len(rows(found)) == len(expected) == facts["rows"]
    assert unmatched(rows(found), expected, pixels=0.02, score=1e-4) <= 0.02 * len(expected)


def test_twelve_numbers_are_pycocotools(golden: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Crowds, images without objects and images without detections included, from the files as they are registered."""
    evaluation = golden / "evaluation"
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / datasets_coco.ANNOTATION_FILE).write_bytes((evaluation / "instances_val2017.json").read_bytes())
    for image in read_json(evaluation / "instances_val2017.json")["images"]:
        (root / "val2017" / image["file_name"]).write_bytes(b"not read for scoring")
    dataset = datasets.open_dataset(register_folder(root, tmp_path / "manifest.json", dataset_format="coco"))
    by_image: dict[str, list[Any]] = {image_id: [] for image_id in dataset.image_ids}
    for row in read_json(evaluation / "detections.json"):
        by_image[f"{row['image_id']:012d}"].append((*row["bbox"], row["score"], row["category_id"]))
    predictions: dict[str, Prediction] = {image_id: detections(found) for image_id, found in by_image.items()}
    expected = dict(read_json(evaluation / "expected.json")["metrics"]["imgIds_subset"])
    assert sorted(expected.pop("image_ids")) == [int(image_id) for image_id in dataset.image_ids]
    expected["mAP"] = expected.pop("AP")
    assert recipe.evaluate(predictions, dataset) == pytest.approx(expected, abs=1e-9)
