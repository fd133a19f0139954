"""SSD-MobileNetV2 against the numbers that the published scripts themselves produced."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import PIL
import pytest
import torch

from npuq.errors import CheckpointError
from tasks import datasets, registry, voc_annotations
from tasks.protocols import Array, Dataset, Detections, Prediction, Recipe, ReportsFacts
from tests.goldens import trees, weights
from tests.services.registered import register_folder
from tests.unit.tasks.memory_voc import detections

#: Ours -> the expected table's: the Ascend script's own, pytorch-ssd's and mmdet's for one and the same number.
TABLES: Final = {
    "mAP": ("ref_iou0.50_11point", "mmdet_iou0.50_11point"),
    "mAP_iou45": ("acl_iou0.45_11point", "mmdet_iou0.45_11point"),
    "mAP_area": ("ref_iou0.50_area", "mmdet_iou0.50_area"),
    "mAP_area_iou45": ("ref_iou0.45_area", "mmdet_iou0.45_area"),
}
GREY_LEVEL: Final = 1 / 128


@pytest.fixture(params=["compact", "whole"], scope="module")
def golden(request: pytest.FixtureRequest) -> Path:
    """Return the golden data of this recipe."""
    folder = (trees.COMPACT if request.param == "compact" else trees.whole_tree()) / "ssd_mobilenetv2"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Return the recipe."""
    return registry.get("ssd_mobilenetv2")


@pytest.fixture(scope="module")
def golden_state(golden: Path) -> dict[str, torch.Tensor]:
    """Return the golden weights as a state dict."""
    arrays = weights.state_dict("ssd_mobilenetv2", 0, read_json(golden / "state_dict.json")["state_dict"])
    assert weights.digest(arrays) == read_json(golden / "forward.json")["weights_sha256"]
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


@pytest.fixture(scope="module")
def network(
    recipe: Recipe, golden_state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> torch.nn.Module:
    """Return the network with the golden weights, loaded from the published form: a bare state dict."""
    path = tmp_path_factory.mktemp("weights") / "mb2-ssd-lite-mp-0_686.pth"
    torch.save(golden_state, path)
    network = recipe.network()
    recipe.load_weights(network, path)
    return network


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_npz(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def forward_batch(golden: Path) -> Array:
    """Return the batch of two that the upstream network was given."""
    batch = weights.input_tensor(0, "forward:full", (2, 3, 300, 300))
    facts = read_json(golden / "forward.json")["cases"]["full"]["input"]
    assert hashlib.sha256(batch.tobytes()).hexdigest() == facts["sha256"]
    return batch


def in_torch(network: torch.nn.Module, batch: Array) -> list[Array]:
    with torch.inference_mode():
        return [output.numpy() for output in network(torch.from_numpy(batch))]


def rows(found: Detections) -> Array:
    """Return detections as rows of label, score, x1, y1, x2, y2, sorted; coordinates as written: from 1."""
    columns = [found.labels[:, None], found.scores[:, None], found.boxes + np.float32(1)]
    table = np.concatenate(columns, axis=1).astype(np.float64)
    return np.asarray(table[np.lexsort(table.T[::-1])])


def test_keys_shapes_and_dtypes_are_the_published_ones(golden: Path, recipe: Recipe) -> None:
    """A published checkpoint fits the network key by key, in the same order."""
    published = read_json(golden / "state_dict.json")
    state = recipe.network().state_dict()
    ours = [(key, list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in state.items()]
    assert ours == [(entry["key"], entry["shape"], entry["dtype"]) for entry in published["state_dict"]]
    assert sum(parameter.numel() for parameter in recipe.network().parameters()) == published["parameters"]


def test_forward_gives_the_upstream_values(golden: Path, network: torch.nn.Module) -> None:
    """The network computes what the upstream network computes."""
    outputs = in_torch(network, forward_batch(golden))
    stored = read_npz(golden / "forward.npz")
    tolerances = read_json(golden / "forward.json")["agreement"]["full"]["suggested_atol_per_output"]
    for name, output, tolerance in zip(("scores", "boxes"), outputs, tolerances, strict=True):
        index = stored.get(f"full__{name}__index", slice(None))  # the compact copy holds samples
        expected = stored.get(f"full__{name}__value", stored.get(f"full__{name}"))
        assert expected is not None
        np.testing.assert_allclose(output.reshape(-1)[index], expected.reshape(-1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_exported_model_computes_what_torch_does(
    golden: Path, recipe: Recipe, network: torch.nn.Module, tmp_path: Path, batch_size: int | None
) -> None:
    """Opset 11, the guide's names; a dynamic batch axis takes any batch, a fixed one its own."""
    if golden.parent != trees.COMPACT:
        pytest.skip("once is enough: the compact copy has the same weights")
    recipe.export(network, tmp_path / "model.onnx", batch_size)
    model = onnx.load(tmp_path / "model.onnx")
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 11)]
    assert [item.name for item in model.graph.input] == ["image"]
    assert [item.name for item in model.graph.output] == ["scores", "boxes"]
    kinds = {node.op_type for node in model.graph.node}
    assert "Shape" not in kinds, "shapes are constants, or ATC has to guess them"
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    pair = forward_batch(golden)
    batches = [pair] if batch_size else [pair[:1], np.concatenate([pair, pair[:1]])]
    for batch in batches:
        found = session.run(None, {"image": batch})
        assert [output.shape for output in found] == [(len(batch), 3000, 21), (len(batch), 3000, 4)]
        for ours, expected, tolerance in zip(found, in_torch(network, batch), (4e-4, 3e-4), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("wrapped", "prefix", "step_counters"),
    [(False, "", True), (False, "module.", False), (True, "", False), (True, "module.", True)],
)
def test_every_published_form_of_a_checkpoint_loads(
    recipe: Recipe,
    golden_state: dict[str, torch.Tensor],
    tmp_path: Path,
    *,
    wrapped: bool,
    prefix: str,
    step_counters: bool,
) -> None:
    """Bare or under `state_dict`, with or without DataParallel's prefix and BatchNorm's step counters."""
    state = {
        f"{prefix}{key}": value
        for key, value in golden_state.items()
        if step_counters or not key.endswith("num_batches_tracked")
    }
    assert len(state) == (478 if step_counters else 404)
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "weights.pth")
    network = recipe.network()
    recipe.load_weights(network, tmp_path / "weights.pth")
    loaded = network.state_dict()
    for key, value in golden_state.items():
        assert key.endswith("num_batches_tracked") or torch.equal(loaded[key], value), key


def test_other_checkpoint_is_refused_and_the_first_keys_named(
    recipe: Recipe, golden_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Missing, unexpected and misshapen weights are told apart; the network stays as it was."""
    state = dict(golden_state)
    del state["extras.0.conv.0.weight"]
    state["base_net.14.conv.9.weight"] = torch.zeros(3)
    state["classification_headers.5.weight"] = torch.zeros(6 * 91, 64, 1, 1)
    torch.save(state, tmp_path / "other.pth")
    network = recipe.network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        recipe.load_weights(network, tmp_path / "other.pth")
    for key in ("extras.0.conv.0.weight", "base_net.14.conv.9.weight", "classification_headers.5.weight"):
        assert key in caught.value.info.message
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_preprocessing_is_the_scripts_bit_for_bit(golden: Path, recipe: Recipe) -> None:
    """Every picture becomes the very bytes that the guide's script writes.

    Pillow before 13 resizes some portrait pictures differently, by one grey level.
    """
    listed = read_json(golden / "preprocess" / "expected.json")["images"]
    samples = read_npz(golden / "preprocess" / "expected.npz")
    assert listed
    for item in listed:
        sample = recipe.preprocess(golden / "preprocess" / "images" / item["file"])
        (tensor,) = item["tensors"]
        assert (str(sample.array.dtype), list(sample.array.shape)) == ("float32", tensor["shape"])
        assert [sample.meta["width"], sample.meta["height"]] == item["pil_size_wh"]
        width, height = item["pil_size_wh"]
        if int(PIL.__version__.split(".")[0]) < 13 and height > width:
            index, value = samples[f"{item['file']}__index"], samples[f"{item['file']}__value"]
            np.testing.assert_allclose(sample.array.reshape(-1)[index], value, rtol=0, atol=GREY_LEVEL)
        else:
            assert hashlib.sha256(sample.array.tobytes()).hexdigest() == tensor["sha256"], item["file"]


def test_detections_are_the_scripts(golden: Path, recipe: Recipe) -> None:
    """Thresholds, the limit of candidates, suppression and scaling: the same rows, scores exactly."""
    stored = read_npz(golden / "postprocess.npz")
    metas = [
        {"width": item["width"], "height": item["height"]} for item in read_json(golden / "postprocess.json")["images"]
    ]
    predictions = recipe.postprocess([stored["raw_scores"], stored["raw_boxes"]], metas)
    assert len(predictions) == len(metas)
    for number, prediction in enumerate(predictions):
        assert isinstance(prediction, Detections)
        assert (np.diff(prediction.scores) <= 0).all(), "best first"
        own = stored["det_image"] == number
        expected = Detections(
            boxes=stored["det_box"][own] - np.float32(1),
            scores=stored["det_score"][own],
            labels=stored["det_label"][own],
        )
        ours, theirs = rows(prediction), rows(expected)
        np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])
        np.testing.assert_allclose(ours[:, 2:], theirs[:, 2:], rtol=0, atol=1e-3)


def test_picture_to_detections_is_the_scripts(golden: Path, recipe: Recipe, network: torch.nn.Module) -> None:
    """The whole chain on one picture: at most 2 % of the rows fall on the other side of a threshold."""
    path = golden / "end_to_end.npz"
    if not path.is_file():
        pytest.skip("the compact copy leaves the end-to-end example out")
    expected = read_npz(path)["rows"]
    sample = recipe.preprocess(golden / read_json(golden / "end_to_end.json")["picture"])
    (prediction,) = recipe.postprocess(in_torch(network, sample.array[None]), [sample.meta])
    assert isinstance(prediction, Detections)
    boxes, scores = prediction.boxes.astype(np.float64) + 1, prediction.scores.astype(np.float64)
    matched = 0
    for row in expected:
        same = (prediction.labels == row[5]) & (np.abs(scores - row[4]) < 1e-4)
        matched += bool((np.abs(boxes[same] - row[:4]).max(axis=1) < 0.02).any()) if same.any() else 0
    assert min(matched, len(scores)) > 0.98 * max(len(expected), len(scores))


def open_golden(folder: Path, scratch: Path) -> Dataset:
    """Return the dataset of a golden folder, which holds no images; scoring reads none."""
    shutil.copytree(folder / "VOC2007", scratch / "VOC2007", copy_function=shutil.copyfile)
    images = scratch / "VOC2007" / "JPEGImages"
    images.mkdir()
    for image_id in (folder / "VOC2007" / "ImageSets" / "Main" / "test.txt").read_text(encoding="ascii").split():
        (images / f"{image_id}.jpg").write_bytes(b"not read for scoring")
    return datasets.open_dataset(register_folder(scratch, scratch / "manifest.json", dataset_format="voc"))


def read_detections(folder: Path, dataset: Dataset) -> dict[str, Prediction]:
    """Return the detections of the guide's files, or of the one file of the compact copy, counted from 0."""
    if (folder / "det").is_dir():
        lines = [
            f"{path.stem.removeprefix('det_test_')} {line}"
            for path in sorted((folder / "det").iterdir())
            for line in path.read_text(encoding="ascii").splitlines()
        ]
    else:
        lines = (folder / "detections.txt").read_text(encoding="ascii").splitlines()
    found: dict[str, list[tuple[tuple[float, ...], int, float]]] = {image_id: [] for image_id in dataset.image_ids}
    for line in lines:
        name, image_id, score, *corners = line.split()
        box = np.array(corners, dtype=np.float32) - np.float32(1)
        found[image_id].append((tuple(box.tolist()), voc_annotations.CLASS_NAMES.index(name), float(score)))
    return {image_id: detections(of_image) for image_id, of_image in found.items()}


def scored(recipe: Recipe, folder: Path, scratch: Path) -> tuple[dict[str, float], Mapping[str, Any]]:
    """Return metrics and the table of classes."""
    dataset = open_golden(folder, scratch)
    predictions = read_detections(folder, dataset)
    assert isinstance(recipe, ReportsFacts)
    facts = recipe.evaluation_facts(predictions, dataset)
    assert facts["classes_without_objects"] == []
    return recipe.evaluate(predictions, dataset), facts["per_class"]


@pytest.mark.parametrize("metric", TABLES)
def test_average_precisions_are_the_scripts(golden: Path, recipe: Recipe, tmp_path: Path, metric: str) -> None:
    """Each class and the mean: the guide's script, pytorch-ssd's and, to its float32, mmdet's."""
    values, table = scored(recipe, golden / "evaluation" / "voc", tmp_path)
    expected = read_json(golden / "evaluation" / "expected.json")["metrics"]
    for name, tolerance in zip(TABLES[metric], (1e-9, 2e-7), strict=True):
        assert values[metric] == pytest.approx(expected[name]["mean"], abs=tolerance)
        ours = {of_class: row[metric.removeprefix("m")] for of_class, row in table.items()}
        assert ours == pytest.approx(expected[name]["per_class"], abs=tolerance)


@pytest.mark.parametrize("metric", TABLES)
def test_best_detection_of_a_difficult_object_spoils_nothing(
    golden: Path, recipe: Recipe, tmp_path: Path, metric: str
) -> None:
    """Where the guide's script divides 0 by 0 and prints NaN, the answer is mmdet's."""
    values, table = scored(recipe, golden / "evaluation" / "voc_difficult_first", tmp_path)
    edge = read_json(golden / "evaluation" / "expected.json")["edge_difficult_first"]["metrics"]
    upstream, mmdet = (edge[name] for name in TABLES[metric])
    assert (values[metric], table["dog"][metric.removeprefix("m")]) == (mmdet["mean"], mmdet["dog"])
    assert upstream["dog"] in (None, mmdet["dog"])


def test_classes_are_the_published_list(golden: Path) -> None:
    """A label file without the background shifted all names once, and a published figure with them."""
    listed = (golden / "evaluation" / "voc" / "voc-model-labels.txt").read_text(encoding="ascii").split()
    assert list(voc_annotations.CLASS_NAMES) == listed
