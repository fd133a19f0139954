"""PyramidBox at its full size: pictures of 1000 x 1000 through torch, onnxruntime and the emulated chip.

One such picture costs 1.5 trillion operations, and what is shown here is shown at a reduced size elsewhere. So these
tests run where they are asked for, with `NPUQ_FULL_SIZE=1`: minutes on two cores.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from tasks import registry
from tasks.protocols import Array, Detections, Prediction, Recipe
from tasks.recipes.pyramidbox.network import PyramidBoxNet
from tests.goldens import trees, weights
from worker.aclruntime_session import AclRuntime
from worker.onnx_session import OnnxSession

#: Looked up when this file is read: tests run without settings of the person who runs them.
IS_ASKED_FOR: Final = os.environ.get("NPUQ_FULL_SIZE") == "1"

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not IS_ASKED_FOR, reason="takes minutes; set NPUQ_FULL_SIZE=1"),
]

ROOT: Final = Path(__file__).parents[2]
PICTURE: Final = trees.COMPACT / "pyramidbox" / "preprocess" / "images" / "0--Parade" / "0_Parade_a_1_5.jpg"
CASES: Final = {"half_pixel": "full", "align_corners": "full_align_corners"}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Return the golden weights as a state dict."""
    entries = read_json(trees.COMPACT / "pyramidbox" / "state_dict.json")["state_dict"]
    arrays = weights.state_dict("pyramidbox", 0, entries)
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}


@pytest.fixture(scope="module")
def whole() -> Path:
    """Return the whole tree's golden data; the compact copy holds no outputs of this size."""
    folder = trees.whole_tree() / "pyramidbox"
    if not folder.is_dir():
        pytest.skip(f"no golden data in {folder}")
    return folder


def with_weights(upsampling: str, state: dict[str, torch.Tensor]) -> tuple[Recipe, PyramidBoxNet]:
    """Return the recipe with an option, and its network with the golden weights."""
    recipe = registry.get("pyramidbox", {"upsampling": upsampling})
    with torch.device("meta"):
        network = recipe.network()
    network.load_state_dict(state, assign=True)
    assert isinstance(network, PyramidBoxNet)
    return recipe, network


def in_torch(network: PyramidBoxNet, image: Array) -> list[Array]:
    with torch.inference_mode():
        return [output.numpy() for output in network(torch.from_numpy(image))]


def on_emulated_chip(folder: Path, model: Path, image: Array, monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """Convert a model with the emulated ATC and execute it with the emulated runtime."""
    home = folder / "emulator"
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    install = [sys.executable, "-m", "emulator", "install", "--home", str(home), "--cards", "1", "--chip", "310P3"]
    subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)
    atc = [str(home / "bin" / "atc"), "--framework=5", f"--model={model}", f"--output={folder / 'model'}"]
    more = ["--input_shape=image:1,3,1000,1000", "--soc_version=Ascend310P3", "--precision_mode=force_fp32"]
    subprocess.run([*atc, *more], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    monkeypatch.setenv("NPUQ_EMULATOR_HOME", str(home))
    monkeypatch.syspath_prepend(home / "python")
    monkeypatch.delitem(sys.modules, "aclruntime", raising=False)
    runtime = AclRuntime(0, lambda: "")
    session = runtime.open(folder / "model.om")
    outputs = [output.copy() for output in session.run([image])]
    session.close()
    runtime.finalize()
    return outputs


def test_one_picture_is_the_same_in_torch_in_onnx_and_on_the_emulated_chip(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """83,250 priors, to a few times the spread of float32; and the faces are the same."""
    recipe, network = with_weights("align_corners", state)
    sample = recipe.preprocess(PICTURE, "original")
    image = sample.array[None]
    expected = in_torch(network, image)
    recipe.export(network, tmp_path / "model.onnx", 1)
    session = OnnxSession(tmp_path / "model.onnx", threads=2)
    found = {"onnxruntime": session.run([image])}
    session.close()
    found["emulator"] = on_emulated_chip(tmp_path, tmp_path / "model.onnx", image, monkeypatch)
    (wanted,) = recipe.postprocess(expected, [sample.meta], "original")
    assert isinstance(wanted, Detections)
    assert len(wanted.scores) > 100
    for outputs in found.values():
        for ours, theirs, tolerance in zip(outputs, expected, (2e-4, 3e-5), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
        (votes,) = recipe.postprocess(outputs, [sample.meta], "original")
        assert isinstance(votes, Detections)
        assert share_found(votes, np.column_stack([wanted.boxes, wanted.scores])) > 0.98


@pytest.mark.parametrize("upsampling", CASES)
def test_forward_gives_the_upstream_values(whole: Path, state: dict[str, torch.Tensor], upsampling: str) -> None:
    """As at the small size in `test_pyramidbox.py`."""
    _, network = with_weights(upsampling, state)
    outputs = in_torch(network, weights.input_tensor(0, "forward:full", (1, 3, 1000, 1000), scale=50.0))
    with np.load(whole / "forward.npz", allow_pickle=False) as stored:
        for name, output, tolerance in zip(("face_loc", "face_conf_softmax"), outputs, (2e-4, 3e-5), strict=True):
            key = f"{CASES[upsampling]}__{name}"
            ours = output.reshape(-1)[stored[f"{key}__index"]]
            np.testing.assert_allclose(ours, stored[f"{key}__value"], rtol=0, atol=tolerance)


def test_picture_to_faces_is_the_upstream_chain(whole: Path, state: dict[str, torch.Tensor]) -> None:
    """Both passes, votes and all, with the upsampling of today's torch; a few faces may differ by rounding."""
    recipe, network = with_weights("half_pixel", state)
    picture = whole / read_json(whole / "end_to_end.json")["picture"]
    votes: dict[str, Prediction] = {}
    for pass_name in recipe.passes:
        sample = recipe.preprocess(picture, pass_name)
        (votes[pass_name],) = recipe.postprocess(in_torch(network, sample.array[None]), [sample.meta], pass_name)
    faces = recipe.merge(votes)
    assert isinstance(faces, Detections)
    with np.load(whole / "end_to_end.npz", allow_pickle=False) as stored:
        rows = stored["rows"]
    assert abs(len(faces.scores) - len(rows)) <= 0.02 * len(rows)
    assert share_found(faces, rows) > 0.98


def share_found(faces: Detections, rows: Array) -> float:
    """Return the share of rows (x1, y1, x2, y2, score, ...) that are among the faces, to the last digits."""
    boxes = np.abs(faces.boxes[:, None].astype(np.float64) - rows[:, :4]).max(axis=2) <= 0.02
    scores = np.abs(faces.scores[:, None].astype(np.float64) - rows[:, 4]) <= 1e-4
    return float((boxes & scores).any(axis=0).mean())
