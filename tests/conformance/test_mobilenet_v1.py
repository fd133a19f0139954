"""MobileNetV1 against the numbers that the published scripts themselves produced."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import datasets, registry, top_k
from tasks.protocols import Array, ClassScores, Prediction, Recipe, ReportsFacts
from tests.goldens import trees, weights
from tests.services.registered import register_folder


@pytest.fixture(params=["compact", "whole"], scope="module")
def golden(request: pytest.FixtureRequest) -> Path:
    """Return the golden data of this recipe."""
    folder = (trees.COMPACT if request.param == "compact" else trees.whole_tree()) / "mobilenet_v1"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder


@pytest.fixture
def recipe() -> Recipe:
    """Return the recipe."""
    return registry.get("mobilenet_v1")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def golden_weights(golden: Path) -> dict[str, Array]:
    arrays = weights.state_dict("mobilenet_v1", 0, read_json(golden / "state_dict.json")["state_dict"])
    assert weights.digest(arrays) == read_json(golden / "forward.json")["weights_sha256"]
    return arrays


def read_results(golden: Path) -> dict[str, Array]:
    """Return image id -> logits, from the guide's text files or from the compact copy."""
    folder = golden / "evaluation" / "results"
    if folder.is_dir():
        return {path.stem.rpartition("_")[0]: np.loadtxt(path) for path in sorted(folder.glob("*.txt"))}
    with np.load(golden / "evaluation" / "results.npz", allow_pickle=False) as archive:
        return dict(zip(archive["image_ids"].tolist(), archive["logits"], strict=True))


def test_keys_shapes_and_dtypes_are_the_published_ones(golden: Path, recipe: Recipe) -> None:
    """A published checkpoint fits the network key by key, in the same order."""
    published = read_json(golden / "state_dict.json")
    state = recipe.network().state_dict()
    ours = [(key, list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in state.items()]
    assert ours == [(entry["key"], entry["shape"], entry["dtype"]) for entry in published["state_dict"]]
    assert sum(parameter.numel() for parameter in recipe.network().parameters()) == published["parameters"]


def test_forward_gives_the_upstream_values(golden: Path, recipe: Recipe, tmp_path: Path) -> None:
    """The network computes what the upstream network computes, weights loaded from the published wrapper."""
    state = {f"module.{key}": torch.from_numpy(np.array(value)) for key, value in golden_weights(golden).items()}
    torch.save({"state_dict": state, "epoch": 1, "arch": "mobilenet"}, tmp_path / "golden.tar")
    network = recipe.network()
    recipe.load_weights(network, tmp_path / "golden.tar")
    facts = read_json(golden / "forward.json")
    batch = weights.input_tensor(0, "forward:full", (2, 3, 224, 224))
    assert hashlib.sha256(batch.tobytes()).hexdigest() == facts["cases"]["full"]["input"]["sha256"]
    with torch.inference_mode():
        ours = network(torch.from_numpy(batch)).numpy()
    with np.load(golden / "forward.npz", allow_pickle=False) as archive:
        expected = archive["full__class"]
    (tolerance,) = facts["agreement"]["full"]["suggested_atol_per_output"]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


def test_preprocessing_is_the_scripts_bit_for_bit(golden: Path, recipe: Recipe) -> None:
    """Every picture becomes the very bytes that the guide's script writes."""
    listed = read_json(golden / "preprocess" / "expected.json")["images"]
    assert listed
    for item in listed:
        sample = recipe.preprocess(golden / "preprocess" / "images" / item["file"])
        (tensor,) = item["tensors"]
        assert (str(sample.array.dtype), list(sample.array.shape)) == ("float32", tensor["shape"])
        assert hashlib.sha256(sample.array.tobytes()).hexdigest() == tensor["sha256"], item["file"]


def test_top5_classes_are_the_scripts(golden: Path, recipe: Recipe) -> None:
    """Postprocessing keeps the order of classes that the guide's script finds."""
    with np.load(golden / "postprocess.npz", allow_pickle=False) as archive:
        logits, expected = archive["logits"], archive["top5_index"]
    predictions = recipe.postprocess([logits], [{} for _ in logits])
    for prediction, classes in zip(predictions, expected, strict=True):
        assert isinstance(prediction, ClassScores)
        assert [top_k.rank_of(prediction.scores, int(label)) for label in classes] == [0, 1, 2, 3, 4]


def test_counts_and_report_are_the_scripts(golden: Path, recipe: Recipe, tmp_path: Path) -> None:
    """Top-1, Top-5, the counts behind them and the report's strings are those of the guide's script."""
    results = read_results(golden)
    (tmp_path / "val").mkdir()
    for image_id in results:
        (tmp_path / "val" / f"{image_id}.JPEG").write_bytes(b"not read for scoring")
    (tmp_path / "val_label.txt").write_bytes((golden / "evaluation" / "val_label.txt").read_bytes())
    dataset = datasets.open_dataset(register_folder(tmp_path, tmp_path / "manifest.json"))
    predictions: dict[str, Prediction] = {key: ClassScores(scores=value) for key, value in results.items()}
    expected = read_json(golden / "evaluation" / "expected.json")["cases"]["results"]
    assert isinstance(recipe, ReportsFacts)
    facts = recipe.evaluation_facts(predictions, dataset)
    assert facts["correct_at_rank"] == expected["correct_at_rank"]
    assert facts["guide_report"] == expected["report"]
    metrics = recipe.evaluate(predictions, dataset)
    assert metrics == pytest.approx({"top1": 100 * expected["top1"], "top5": 100 * expected["top5"]}, rel=1e-12)
