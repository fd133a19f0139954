"""PyramidBox against the numbers that the reference implementation and the guide's scripts themselves produced."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import pytest
import torch

from npuq.errors import InvalidRequestError
from tasks import onnx_export, registry
from tasks.protocols import Array, Detections, Recipe, TensorSpec
from tasks.recipes.pyramidbox import postprocess, result_files, shapes
from tasks.recipes.pyramidbox.network import PyramidBoxNet
from tests.goldens import trees, weights
from worker.onnx_session import OnnxSession

#: Loading and running 57 million weights takes its time where other tests run beside.
pytestmark = pytest.mark.timeout(300)

SMALL: Final = (1, 3, 250, 314)
#: As our option has it -> as the golden data name it.
CASES: Final = {"half_pixel": "small", "align_corners": "small_align_corners"}
HEADS: Final = ("face_loc", "face_conf_logits", "head_loc", "head_conf_logits")
TOLERANCE: Final = 2e-4


@pytest.fixture(params=["compact", "whole"], scope="module")
def golden(request: pytest.FixtureRequest) -> Path:
    """Return the golden data of this recipe."""
    folder = (trees.COMPACT if request.param == "compact" else trees.whole_tree()) / "pyramidbox"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Return the recipe."""
    return registry.get("pyramidbox")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Return the golden weights as a state dict; the same in both trees, and made once."""
    folder = trees.COMPACT / "pyramidbox"
    arrays = weights.state_dict("pyramidbox", 0, read_json(folder / "state_dict.json")["state_dict"])
    assert weights.digest(arrays) == read_json(folder / "forward.json")["weights_sha256"]
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


@pytest.fixture(scope="module")
def network(recipe: Recipe, state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> PyramidBoxNet:
    """Return the network with the golden weights, loaded from a bare state dict of old torch, without step counters."""
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) == 281
    path = tmp_path_factory.mktemp("weights") / "pyramidbox_120000_99.02.pth"
    torch.save(old, path)
    network = recipe.network()
    recipe.load_weights(network, path)
    path.unlink()
    assert isinstance(network, PyramidBoxNet)
    return network


def with_upsampling(network: PyramidBoxNet, upsampling: str) -> PyramidBoxNet:
    """Return the network of an option with another one's weights, which they share."""
    with torch.device("meta"):
        other = registry.get("pyramidbox", {"upsampling": upsampling}).network()
    other.load_state_dict(network.state_dict(), assign=True)
    assert isinstance(other, PyramidBoxNet)
    return other


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_npz(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def as_rows(found: Detections) -> Array:
    """Return detections as rows of x1, y1, x2, y2, score, float64; an order that does not depend on equal scores."""
    table = np.column_stack([found.boxes, found.scores]).astype(np.float64)
    return sorted_rows(table)


def sorted_rows(table: Array) -> Array:
    return np.asarray(table[np.lexsort(np.round(table, 2).T)])


def test_keys_shapes_and_dtypes_are_the_published_ones(golden: Path, recipe: Recipe) -> None:
    """A published checkpoint fits the network key by key, in the same order."""
    published = read_json(golden / "state_dict.json")
    with torch.device("meta"):
        network = recipe.network()
    ours = [
        (key, list(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in network.state_dict().items()
    ]
    assert ours == [(entry["key"], entry["shape"], entry["dtype"]) for entry in published["state_dict"]]
    assert sum(parameter.numel() for parameter in network.parameters()) == published["parameters"] == 57_177_366


@pytest.mark.parametrize("upsampling", CASES)
def test_forward_gives_the_upstream_values(network: PyramidBoxNet, upsampling: str) -> None:
    """All heads, on an input of odd sizes, with upsampling of either alignment."""
    image = weights.input_tensor(0, "forward:small", SMALL, scale=50.0)
    with torch.inference_mode():
        heads = with_upsampling(network, upsampling).heads(torch.from_numpy(image))
    outputs = dict(zip(HEADS, heads, strict=True))
    outputs["face_conf_softmax"] = torch.softmax(heads.face_conf, dim=2)
    stores = [read_npz(tree / "pyramidbox" / "forward.npz") for tree in (trees.COMPACT,)]
    whole = trees.whole_tree() / "pyramidbox" / "forward.npz"
    stores += [read_npz(whole)] if whole.is_file() else []
    for stored in stores:
        for name, output in outputs.items():
            key = f"{CASES[upsampling]}__{name}"
            index = stored.get(f"{key}__index", slice(None))  # the compact copy holds samples
            expected = stored.get(f"{key}__value", stored.get(key))
            assert expected is not None
            ours = output.numpy().reshape(-1)[index]
            np.testing.assert_allclose(ours, expected.reshape(-1), rtol=0, atol=TOLERANCE)


def test_scores_are_the_softmax_of_the_faces(network: PyramidBoxNet) -> None:
    """What is exported says nothing of heads, and the same of faces."""
    image = torch.from_numpy(weights.input_tensor(0, "forward:tiny", (1, 3, 72, 96), scale=50.0))
    with torch.inference_mode():
        (locations, scores), heads = network(image), network.heads(image)
    assert scores.shape == (1, shapes.priors(72, 96), 2)
    torch.testing.assert_close(locations, heads.face_loc)
    torch.testing.assert_close(scores, torch.softmax(heads.face_conf, dim=2))


def test_export_is_for_one_batch_size(network: PyramidBoxNet, recipe: Recipe, tmp_path: Path) -> None:
    """As in the guide; `tests/acceptance/test_pyramidbox.py` looks at what is exported."""
    with pytest.raises(InvalidRequestError, match="one batch size"):
        recipe.export(network, tmp_path / "model.onnx", None)


@pytest.mark.parametrize("upsampling", CASES)
def test_either_upsampling_survives_the_export(network: PyramidBoxNet, upsampling: str, tmp_path: Path) -> None:
    """The pyramid alone, with the sizes of an input of 1000 pixels: an odd size follows an even one."""
    pyramid = _Pyramid(with_upsampling(network, upsampling))
    sizes = shapes.cells(250)[:4]  # as many as levels 2 to 5 have at 1000
    channels = (256, 512, 512, 1024)
    inputs = [
        TensorSpec(name=f"x{number}", dtype="float32", shape=("N", count, side, side))
        for number, (count, side) in enumerate(zip(channels, sizes, strict=True))
    ]
    outputs = [TensorSpec(name=f"y{spec.name}", dtype=spec.dtype, shape=spec.shape) for spec in inputs[:3]]
    onnx_export.write_onnx(pyramid, tmp_path / "pyramid.onnx", inputs=inputs, outputs=outputs, batch_size=1)
    generator = np.random.default_rng(5)
    feeds = {spec.name: generator.random(spec.at_batch(1), dtype=np.float32) for spec in inputs}
    found = onnxruntime.InferenceSession(tmp_path / "pyramid.onnx").run(None, feeds)
    with torch.inference_mode():
        expected = pyramid(*(torch.from_numpy(feed) for feed in feeds.values()))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-5 * max(1.0, float(theirs.abs().max())))


def test_onnx_of_any_size_computes_what_torch_does(network: PyramidBoxNet, tmp_path: Path) -> None:
    """At the scales of the reference: exported once, it takes odd and even sizes."""
    recipe = registry.get("pyramidbox", {"side": "64", "test_scales": "reference"})
    recipe.export(network, tmp_path / "any.onnx", 1)
    session = OnnxSession(tmp_path / "any.onnx")
    for height, width in ((100, 133), (65, 70)):
        image = weights.input_tensor(0, f"any:{width}", (1, 3, height, width), scale=50.0)
        session.bind([image.shape])
        found = session.run([image])
        with torch.inference_mode():
            expected = network(torch.from_numpy(image))
        assert found[0].shape == (1, shapes.priors(height, width), 4)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=TOLERANCE)
    session.close()


class _Pyramid(torch.nn.Module):
    """The part of the network where upsampling matters."""

    def __init__(self, network: PyramidBoxNet) -> None:
        super().__init__()
        self._network = network

    def forward(self, *maps: torch.Tensor) -> list[torch.Tensor]:
        sizes = shapes.sizes(250, 250)
        return self._network.pyramid(maps[:3], maps[3], sizes)


def test_both_passes_are_prepared_as_the_script_does_bit_for_bit(golden: Path, recipe: Recipe) -> None:
    """Every picture becomes the very bytes of the guide's two sets."""
    listed = read_json(golden / "preprocess" / "expected.json")["images"]
    assert listed
    for item in listed:
        for pass_name, tensor in zip(recipe.passes, item["tensors"], strict=True):
            sample = recipe.preprocess(golden / "preprocess" / "images" / item["file"], pass_name)
            assert (str(sample.array.dtype), [1, *sample.array.shape]) == ("float32", tensor["shape"])
            assert hashlib.sha256(sample.array.tobytes()).hexdigest() == tensor["sha256"], (item["file"], pass_name)
            assert [sample.meta["width"], sample.meta["height"]] == item["pil_size_wh"]


@pytest.mark.parametrize("number", [0, 1])
def test_faces_on_the_square_are_the_references(golden: Path, number: int) -> None:
    """Softmax aside: decoding, the threshold, the 5,000 best candidates, suppression."""
    stored = read_npz(golden / "postprocess.npz")
    count = shapes.priors(shapes.SIDE, shapes.SIDE)
    locations = np.zeros((count, 4), dtype=np.float32)
    logits = np.tile(np.array([4, -4], dtype=np.float32), (count, 1))
    index = stored[f"detect{number}_index"]
    locations[index], logits[index] = stored[f"detect{number}_loc"], stored[f"detect{number}_conf"]
    scores = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    rows, expected = postprocess.on_square(locations, scores, shapes.SIDE), stored[f"detect{number}_rows"]
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows[:, 0], expected[:, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(rows[:, 1:], expected[:, 1:], rtol=0, atol=2e-5)


def test_votes_and_faces_are_the_scripts(golden: Path, recipe: Recipe) -> None:
    """From the rows of both passes to the faces: flip, copies by size, votes, at most 750.

    Our rows are float32. Those of the script's device are float16, and its sums too, hence the second, wider tolerance.
    """
    stored = read_npz(golden / "postprocess.npz")
    for number, image in enumerate(read_json(golden / "postprocess.json")["merge"]["images"]):
        meta = {"width": image["width"], "height": image["height"]}
        rows = {"original": stored[f"merge{number}_set1"], "flipped": stored[f"merge{number}_set2"]}
        votes = {name: postprocess.on_picture(of_pass, meta, name) for name, of_pass in rows.items()}
        counts = image["rows"]
        assert len(votes["original"].scores) == counts["det0"] + counts["det2"] + counts["det3"]
        assert len(votes["flipped"].scores) == counts["det1"]
        faces = recipe.merge(votes)
        assert isinstance(faces, Detections)
        assert (np.diff(faces.scores) <= 0).all()
        exact, written = (sorted_rows(stored[f"merge{number}_{kind}_dets"]) for kind in ("f32", "f16"))
        np.testing.assert_allclose(as_rows(faces), exact, rtol=0, atol=2e-3)
        np.testing.assert_allclose(faces.scores, np.sort(written[:, 4])[::-1], rtol=0, atol=1e-3)
        slack = 0.001 * max(meta.values()) + 0.3
        ours = faces.boxes[:, None].astype(np.float64)
        assert (np.abs(ours - written[:, :4]).max(axis=2).min(axis=1) < slack).all()


def test_text_files_are_the_scripts(golden: Path) -> None:
    """Of the script's own boxes, line by line."""
    stored, facts = read_npz(golden / "postprocess.npz"), read_json(golden / "postprocess.json")
    compared = 0
    for number, image in enumerate(facts["merge"]["images"]):
        image_id = f"{image['event']}/{image['stem']}"
        expected = facts["output_files"].get(str(result_files.path_of(image_id)))
        if expected is None:
            continue  # the compact copy leaves the longest out
        rows = stored[f"merge{number}_f16_dets"]
        faces = Detections(boxes=rows[:, :4], scores=rows[:, 4], labels=np.ones(len(rows), dtype=np.int64))
        assert result_files.text_of(image_id, faces).splitlines() == expected
        compared += 1
    assert compared > 2
