"""NAS-FPN against the numbers that mmdetection's code and the guide's scripts themselves produced."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from npuq.errors import CheckpointError
from tasks import coco_categories, export, registry
from tasks.protocols import Array, Detections, Prediction, Recipe, ReportsFacts, TensorSpec
from tasks.recipes.nas_fpn import NasFpn, postprocess
from tests.goldens import trees, weights
from tests.unit.tasks.memory_coco import MemoryCoco, detections

#: Loading and running 60 million weights takes its time where other tests run beside.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["compact", "whole"], scope="module")
def golden(request: pytest.FixtureRequest) -> Path:
    """Return the golden data of this recipe."""
    folder = (trees.COMPACT if request.param == "compact" else trees.whole_tree()) / "nas_fpn"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    """Return the recipe."""
    return registry.get("nas_fpn")


@pytest.fixture(scope="module")
def state(golden: Path) -> dict[str, torch.Tensor]:
    """Return the golden weights."""
    facts = read_json(golden / "forward.json")
    arrays = weights.state_dict("nas_fpn", facts["seed"], read_json(golden / "state_dict.json")["state_dict"])
    assert weights.digest(arrays) == facts["weights_sha256"]
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


@pytest.fixture(scope="module")
def network(golden: Path, state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """Return the network with the golden weights, loaded from the published wrapper: one of today, and an old one."""
    if golden.parent == trees.COMPACT:
        state = {f"module.{key}": value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    path = tmp_path_factory.mktemp("weights") / "retinanet_r50_nasfpn_crop640_50e_coco-0ad1f644.pth"
    meta = {"mmdet_version": "2.4.0", "CLASSES": coco_categories.CATEGORY_NAMES, "epoch": 50, "config": "model = ..."}
    torch.save({"meta": meta, "state_dict": state}, path)
    recipe = registry.get("nas_fpn")
    network = recipe.network()
    recipe.load_weights(network, path)
    path.unlink()
    return network


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def head_maps(golden: Path, image: int) -> list[Array]:
    """Return the raw outputs of the network for an image, batch axis included."""
    sizes = [80, 40, 20, 10, 5]
    with np.load(golden / "postprocess.npz", allow_pickle=False) as archive:
        maps = [
            weights.sparse_maps(
                archive[f"img{image}_{kind}_index"],
                archive[f"img{image}_{kind}_value"],
                base=base,
                sizes=sizes,
                anchors=9,
                width=width,
            )
            for kind, base, width in (("cls", -9.0, 80), ("reg", 0.0, 4))
        ]
    return [*maps[0], *maps[1]]


def as_rows(boxes: Array, scores: Array, labels: Array) -> Array:
    """Return float64 (N, 6): label, score, box; in an order that does not depend on equal scores."""
    table = np.column_stack([labels, scores, boxes]).astype(np.float64)
    return table[np.lexsort(np.round(table, 2).T[::-1])]


def test_keys_shapes_and_dtypes_are_the_published_ones(golden: Path, recipe: Recipe) -> None:
    """A published checkpoint fits the network key by key, in the same order; weights of the head count once."""
    published = read_json(golden / "state_dict.json")
    network = recipe.network()
    ours = [
        (key, list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in network.state_dict().items()
    ]
    assert ours == [(entry["key"], entry["shape"], entry["dtype"]) for entry in published["state_dict"]]
    assert sum(parameter.numel() for parameter in network.parameters()) == published["parameters"]


def test_entries_share_a_tensor_where_the_published_network_does(golden: Path, recipe: Recipe) -> None:
    """The head's convolutions exist once, under the names of five levels."""
    entries = recipe.network().state_dict(keep_vars=True)
    published = read_json(golden / "state_dict.json")["state_dict"]
    aliases = {entry["key"]: entry["alias_of"] for entry in published if "alias_of" in entry}
    assert len({id(value) for value in entries.values()}) == len(published) - len(aliases)
    assert all(entries[key] is entries[original] for key, original in aliases.items())


def test_forward_gives_the_upstream_values(golden: Path, network: torch.nn.Module) -> None:
    """The network computes what the upstream network computes, in every stored size."""
    if golden.parent == trees.COMPACT and (trees.whole_tree() / "nas_fpn").is_dir():
        pytest.skip("once is enough: the whole tree has these values and more")
    facts = read_json(golden / "forward.json")
    with np.load(golden / "forward.npz", allow_pickle=False) as archive:
        stored = dict(archive)
    for case, described in facts["cases"].items():
        batch = weights.input_tensor(facts["seed"], f"forward:{case}", tuple(described["input"]["shape"]))
        assert hashlib.sha256(batch.tobytes()).hexdigest() == described["input"]["sha256"]
        with torch.inference_mode():
            outputs = [output.numpy() for output in network(torch.from_numpy(batch))]
        tolerances = facts["agreement"][case]["suggested_atol_per_output"]
        for output, tolerance, entry in zip(outputs, tolerances, described["outputs"], strict=True):
            name = f"{case}__{entry['name']}"
            index = stored.get(f"{name}__index", slice(None))
            expected = stored[name].ravel() if name in stored else stored[f"{name}__value"]
            assert list(output.shape) == entry["shape"]
            np.testing.assert_allclose(output.ravel()[index], expected, rtol=0, atol=tolerance, err_msg=name)


def test_checkpoint_of_another_head_is_refused(
    golden: Path, state: dict[str, torch.Tensor], recipe: Recipe, tmp_path: Path
) -> None:
    """Levels whose convolutions differ are those of a head that does not share them."""
    key = "bbox_head.reg_convs.3.1.conv.weight"
    torch.save({"state_dict": state | {key: state[key] + 1e-3}}, tmp_path / "unshared.pth")
    with pytest.raises(CheckpointError, match=rf"{key} and bbox_head\.reg_convs\.0\.1\.conv\.weight"):
        recipe.load_weights(recipe.network(), tmp_path / "unshared.pth")


class SmallNasFpn(NasFpn):
    """The recipe with a canvas of 128 x 128: the same operators and weights, for a fraction of the time."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec(name="input", dtype="float32", shape=("N", 3, 128, 128)),)


def test_exported_graph_computes_what_torch_does(golden: Path, network: torch.nn.Module, tmp_path: Path) -> None:
    """Two pictures at once: the names are the promised ones, and onnxruntime agrees with torch.

    One picture of 640 x 640, as in the guide, is exported and compared where a fleet runs the recipe.
    """
    if golden.parent != trees.COMPACT:
        pytest.skip("once is enough: the compact copy has the same weights")
    recipe = SmallNasFpn()
    export.export_checked(recipe, network, tmp_path / "two.onnx", 2)
    opsets = onnx.load(tmp_path / "two.onnx").opset_import
    assert [(item.domain, item.version) for item in opsets] == [("", 11)]
    agreement = export.compare(recipe, network, tmp_path / "two.onnx", 2)
    assert agreement.max_abs_difference <= agreement.tolerance


def test_preprocessing_is_the_scripts_bit_for_bit(golden: Path, recipe: Recipe) -> None:
    """Every picture becomes the very bytes that the guide's script writes, and the meta says where it lies."""
    listed = read_json(golden / "preprocess" / "expected.json")["images"]
    assert listed
    for item in listed:
        sample = recipe.preprocess(golden / "preprocess" / "images" / item["file"])
        (tensor,) = item["tensors"]
        assert (str(sample.array.dtype), list(sample.array.shape)) == ("float32", tensor["shape"])
        assert hashlib.sha256(sample.array.tobytes()).hexdigest() == tensor["sha256"], item["file"]
        wanted, meta = item["metadata"], sample.meta
        assert [meta["width"], meta["height"]] == wanted["read_wh"]
        assert [meta["resized_width"], meta["resized_height"]] == wanted["resized_wh"]
        assert [meta["pad_left"], meta["pad_top"]] == wanted["pad_left_top_right_bottom"][:2]


def test_detections_on_the_canvas_are_the_graphs(golden: Path) -> None:
    """Decoding, the thousand best anchors of a level, threshold, suppression and the cap of 100."""
    with np.load(golden / "postprocess.npz", allow_pickle=False) as archive:
        boxes, labels, valid = archive["boxes"], archive["labels"], archive["valid_rows"]
    for image, count in enumerate(valid):
        maps = [each[0] for each in head_maps(golden, image)]
        ours = as_rows(*postprocess.on_canvas(maps[:5], maps[5:]))
        expected = as_rows(boxes[image, :count, :4], boxes[image, :count, 4], labels[image, :count])
        assert ours.shape == expected.shape
        np.testing.assert_array_equal(ours[:, 0], expected[:, 0])
        np.testing.assert_allclose(ours[:, 1], expected[:, 1], rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours[:, 2:], expected[:, 2:], rtol=0, atol=5e-3)


def test_detections_on_the_picture_are_the_scripts(golden: Path, recipe: Recipe) -> None:
    """From raw outputs to the rows of the guide's JSON: boxes, scores and category ids, of a batch of all images."""
    facts = read_json(golden / "postprocess.json")
    outputs = [np.concatenate(maps) for maps in zip(*(head_maps(golden, image) for image in range(2)), strict=True)]
    metas = [{"width": image["width"], "height": image["height"]} for image in facts["images"]]
    for image, found in zip(facts["images"], recipe.postprocess(outputs, metas), strict=True):
        assert isinstance(found, Detections)
        wanted = [row for row in facts["result_json"] if row["image_id"] == image["image_id"]]
        expected = as_rows(
            np.array([row["bbox"] for row in wanted]),
            np.array([row["score"] for row in wanted]),
            np.array([row["category_id"] for row in wanted]),
        )
        sizes = found.boxes[:, 2:] - found.boxes[:, :2]
        ours = as_rows(np.column_stack([found.boxes[:, :2], sizes]), found.scores, found.labels)
        np.testing.assert_array_equal(ours[:, 0], expected[:, 0])
        np.testing.assert_allclose(ours[:, 1], expected[:, 1], rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours[:, 2:], expected[:, 2:], rtol=0, atol=5e-3)
        assert (np.diff(found.scores) <= 0).all()


def test_boxes_are_brought_back_as_the_script_does(golden: Path) -> None:
    """The host stage alone, in float64."""
    facts = read_json(golden / "postprocess.json")
    with np.load(golden / "postprocess.npz", allow_pickle=False) as archive:
        rows, labels = archive["host_boxes"], archive["host_labels"]
    kept = rows[:, 4] >= postprocess.SCORE_THRESHOLD
    ids = coco_categories.category_ids_of(labels[kept])
    ours = postprocess.on_picture(rows[kept, :4], facts["images"][0])
    wanted = facts["host_only"]["result_json"]
    assert ids.tolist() == [row["category_id"] for row in wanted]
    expected = np.array([row["bbox"] for row in wanted])
    np.testing.assert_allclose(np.column_stack([ours[:, :2], ours[:, 2:] - ours[:, :2]]), expected, rtol=1e-9)


def test_metrics_and_report_are_the_scripts(golden: Path, recipe: Recipe) -> None:
    """COCO's twelve numbers, and the guide's lines with its own limits on detections."""
    folder = golden / "evaluation"
    expected = read_json(folder / "expected.json")
    dataset = MemoryCoco(instances=read_json(folder / "instances_val2017.json"))
    rows = read_json(folder / "coco_detection_result.json")
    predictions: dict[str, Prediction] = {
        image_id: detections(
            [(*row["bbox"], row["score"], row["category_id"]) for row in rows if row["image_id"] == int(image_id)]
        )
        for image_id in dataset.image_ids
    }
    wanted = expected["metrics"]["pycocotools_default"]
    metrics = recipe.evaluate(predictions, dataset)
    assert metrics == pytest.approx({"mAP": wanted.pop("AP"), **wanted}, abs=1e-9)
    assert isinstance(recipe, ReportsFacts)
    facts = recipe.evaluation_facts(predictions, dataset)
    assert facts["guide_report"] == expected["acl_report_lines"]


def test_picture_to_detections_is_the_upstream_chain(golden: Path, recipe: Recipe, network: torch.nn.Module) -> None:
    """Preprocessing, network and decoding together; a few rows may differ, for equal scores and by rounding."""
    if not (golden / "end_to_end.npz").is_file():
        pytest.skip("the compact copy has no end-to-end example")
    picture = golden / read_json(golden / "end_to_end.json")["picture"]
    with torch.inference_mode():
        outputs = network(torch.from_numpy(recipe.preprocess(picture).array[None]))
    maps = [output.numpy()[0] for output in outputs]
    boxes, scores, labels = postprocess.on_canvas(maps[:5], maps[5:])
    with np.load(golden / "end_to_end.npz", allow_pickle=False) as archive:
        expected = archive["rows"]
    close = (
        (labels[:, None] == expected[:, 5])
        & (np.abs(scores[:, None] - expected[:, 4]) <= 1e-4)
        & (np.abs(boxes[:, None] - expected[:, :4]) <= 0.02).all(axis=2)
    )
    assert len(boxes) == len(expected)
    assert close.any(axis=0).sum() >= 0.98 * len(expected)
