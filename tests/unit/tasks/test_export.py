"""Export gives an ONNX file that is shown to compute what torch computes."""

from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch

from npuq.errors import CheckpointError, ExportError, InvalidRequestError
from npuq.states import JobKind
from tasks import export, registry
from tasks.demo_data import DemoFiles
from tests.unit.tasks.recording_context import RecordingContext, host_context


def test_export_step_writes_the_promised_interface(demo: DemoFiles, tmp_path: Path) -> None:
    """Names, shapes and opset are the guide's, the batch axis is dynamic, and the facts say how good it is."""
    context = host_context(JobKind.EXPORT, tmp_path, inputs={"weights": (demo.weights,)})
    outcome = export.run(context)
    (path,) = outcome.outputs["onnx"]
    model = onnx.load(path)
    (image,), (scores,) = model.graph.input, model.graph.output
    axes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in (image, scores)
    ]
    assert (image.name, scores.name, axes) == ("image", "class", [["N", 3, 224, 224], ["N", 1000]])
    assert [opset.version for opset in model.opset_import] == [11]
    assert (outcome.facts["parameters"], outcome.facts["opset"]) == (4_231_976, 11)
    assert 0 < outcome.facts["max_abs_difference"] < outcome.facts["tolerance"]
    assert cast("RecordingContext", context).told[-1] == (3, 3, "stages")


def test_equal_weights_give_equal_bytes(demo: DemoFiles, tmp_path: Path) -> None:
    """An export that is repeated makes the same artifact, so that later work is reused."""
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        outcome = export.run(host_context(JobKind.EXPORT, tmp_path / name, inputs={"weights": (demo.weights,)}))
        contents.append(outcome.outputs["onnx"][0].read_bytes())
    assert contents[0] == contents[1]


def test_fixed_batch_size_is_exported_as_such(tmp_path: Path) -> None:
    """A recipe can write a static ONNX too, and it is compared at that size."""
    recipe = registry.get("mobilenet_v1")
    network = recipe.network()
    export.export_checked(recipe, network, tmp_path / "static.onnx", 3)
    dims = onnx.load(tmp_path / "static.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_value for axis in dims] == [3, 3, 224, 224]
    assert export.compare(recipe, network, tmp_path / "static.onnx", 3).max_abs_difference < export.TOLERANCE


def test_onnx_of_other_weights_is_noticed(demo: DemoFiles, tmp_path: Path) -> None:
    """The comparison fails when file and network differ."""
    recipe = registry.get("mobilenet_v1")
    network = recipe.network()
    recipe.load_weights(network, demo.weights)
    export.export_checked(recipe, network, tmp_path / "right.onnx", None)
    with torch.no_grad():
        network.get_parameter("fc.bias")[500] += 0.1
    with pytest.raises(ExportError, match=r"class differs by 0\.1") as caught:
        export.compare(recipe, network, tmp_path / "right.onnx", None)
    assert caught.value.info.code == "export_differs"


def test_exporters_failure_is_wrapped_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the exporter raises becomes one sentence, its own text kept as detail."""
    recipe = registry.get("mobilenet_v1")

    def fail(*_: object) -> None:
        raise RuntimeError("Unsupported: aten::something")

    monkeypatch.setattr(recipe, "export", fail)
    with pytest.raises(ExportError, match="could not be exported") as caught:
        export.export_checked(recipe, recipe.network(), tmp_path / "x.onnx", None)
    assert caught.value.info.detail == "Unsupported: aten::something"


def test_wrong_checkpoint_leaves_no_onnx(tmp_path: Path) -> None:
    """A checkpoint of another model fails before anything is written."""
    torch.save({"state_dict": {"conv1.weight": torch.from_numpy(np.zeros(3))}}, tmp_path / "resnet.tar")
    with pytest.raises(CheckpointError, match="missing"):
        export.run(host_context(JobKind.EXPORT, tmp_path, inputs={"weights": (tmp_path / "resnet.tar",)}))
    assert not list(tmp_path.glob("*.onnx"))


def test_a_refused_checkpoint_is_called_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a recipe's loader says of it; and the log tells what was being read."""

    def refuse(*_: object) -> None:
        raise CheckpointError("It has other keys.", detail="conv1", code="own")

    weights = tmp_path / "mine.pth.tar"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(registry.get("mobilenet_v1"), "load_weights", refuse)
    with pytest.raises(CheckpointError) as caught:
        export.run(host_context(JobKind.EXPORT, tmp_path, inputs={"weights": (weights,)}))
    info = caught.value.info
    assert (info.message, info.detail, info.code) == ("mine.pth.tar: It has other keys.", "conv1", "own")
    assert "reading mine.pth.tar (7 bytes) for mobilenet_v1" in capsys.readouterr().out


def test_export_without_weights_is_refused(tmp_path: Path) -> None:
    """A request that cannot be carried out says why."""
    with pytest.raises(InvalidRequestError, match="needs one weights file"):
        export.run(host_context(JobKind.EXPORT, tmp_path, inputs={}))
