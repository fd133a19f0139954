"""Padding moves into maximum pools where that means the same, and nowhere else."""

import math
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from npuq.errors import ToolMissingError
from tasks import onnx_simplification
from tasks.protocols import Array


def padded_pool(
    *, widths: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 1, 1), value: float = -math.inf, mode: str = "constant"
) -> onnx.ModelProto:
    """Return padding and a maximum pool of 3 x 3, stride 2, over (1, 1, 6, 6)."""
    graph = helper.make_graph(
        [
            helper.make_node("Pad", ["image", "widths", "value"], ["padded"], mode=mode),
            helper.make_node("MaxPool", ["padded"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2]),
        ],
        "padded_pool",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 6, 6])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [1, 1, "H", "W"])],
        [
            numpy_helper.from_array(np.array(widths, dtype=np.int64), "widths"),
            numpy_helper.from_array(np.array(value, dtype=np.float32), "value"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def run(model: onnx.ModelProto) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = -np.arange(1, 37, dtype=np.float32).reshape(1, 1, 6, 6)
    return np.asarray(session.run(None, {"image": image})[0])


@pytest.mark.parametrize("widths", [(0, 0, 0, 0, 0, 0, 1, 1), (0, 0, 1, 2, 0, 0, 2, 1), (0, 0, 0, 0, 0, 0, 0, 0)])
def test_padding_with_minus_infinity_becomes_the_pools_own(widths: tuple[int, ...]) -> None:
    """One node less, the same numbers, and no constant left over."""
    model = padded_pool(widths=widths)
    before = run(model)
    assert onnx_simplification.fold_pads_into_max_pools(model.graph) == 1
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model) == ["MaxPool"]
    assert not model.graph.initializer
    np.testing.assert_array_equal(run(model), before)


def test_widths_are_added_to_those_that_the_pool_has() -> None:
    """Two paddings follow each other."""
    model = padded_pool(widths=(0, 0, 1, 0, 0, 0, 0, 1))
    model.graph.node[1].attribute.append(helper.make_attribute("pads", [1, 0, 0, 1]))
    before = run(model)
    assert onnx_simplification.fold_pads_into_max_pools(model.graph) == 1
    assert {item.name: list(item.ints) for item in model.graph.node[0].attribute}["pads"] == [2, 0, 0, 2]
    np.testing.assert_array_equal(run(model), before)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(padded_pool(value=0.0), id="zero wins where all is negative"),
        pytest.param(padded_pool(value=-1e30), id="a finite value is a value"),
        pytest.param(padded_pool(mode="edge"), id="another mode"),
        pytest.param(padded_pool(widths=(0, 0, 0, 0, 0, 0, 3, 3)), id="windows in the padding alone"),
        pytest.param(padded_pool(widths=(0, 1, 0, 0, 0, 0, 1, 1)), id="padding of channels"),
        pytest.param(padded_pool(widths=(0, 0, -1, 0, 0, 0, 1, 1)), id="cropping"),
    ],
)
def test_other_padding_stays(model: onnx.ModelProto) -> None:
    """Folding it would change the numbers."""
    before = run(model)
    assert onnx_simplification.fold_pads_into_max_pools(model.graph) == 0
    assert kinds(model) == ["Pad", "MaxPool"]
    np.testing.assert_array_equal(run(model), before)


def test_padding_that_others_read_stays() -> None:
    """Its output is still wanted."""
    model = padded_pool()
    model.graph.output.append(helper.make_tensor_value_info("padded", TensorProto.FLOAT, [1, 1, "H", "W"]))
    assert onnx_simplification.fold_pads_into_max_pools(model.graph) == 0
    assert kinds(model) == ["Pad", "MaxPool"]


def test_host_without_onnxslim_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The extra that holds it is named."""
    monkeypatch.setitem(sys.modules, "onnxslim", None)
    with pytest.raises(ToolMissingError, match="worker,export"):
        onnx_simplification.simplify(tmp_path / "model.onnx")


def test_file_is_simplified_in_place_and_always_alike(tmp_path: Path) -> None:
    """Equal graphs give equal bytes: artifacts are known by their digest."""
    pytest.importorskip("onnxslim")
    contents = []
    for name in ("one.onnx", "two.onnx"):
        onnx.save(padded_pool(), tmp_path / name)
        onnx_simplification.simplify(tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert kinds(onnx.load(tmp_path / "one.onnx")) == ["MaxPool"]
