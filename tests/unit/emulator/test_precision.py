from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from emulator.precision import FLOAT16_LARGEST, Lowering, Scope, lower

IMAGE = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def half(array: np.ndarray) -> np.ndarray:
    """Return what is left of an array after float16."""
    return array.astype(np.float16).astype(np.float32)


def network(*, opset: int = 11, gain: float = 1.0) -> onnx.ModelProto:
    """Return Conv, BatchNormalization, Relu, Softmax; every tensor has its type."""
    weights = {
        "kernel": np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32) * gain,
        "scale": np.array([1.1, 0.9, 1.3, 0.7], np.float32),
        "shift": np.array([0.1, -0.2, 0.3, 0.0], np.float32),
        "mean": np.array([0.01, 0.02, 0.03, 0.04], np.float32),
        "variance": np.array([0.9, 1.1, 1.0, 0.8], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["b"], name="norm"),
        helper.make_node("Relu", ["b"], ["r"], name="relu"),
        helper.make_node("Softmax", ["r"], ["out"], name="softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 6, 6]) for name in ("out", "r")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def run(model: onnx.ModelProto, image: np.ndarray = IMAGE) -> dict[str, np.ndarray]:
    """Return the outputs by name."""
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def lowered(lowering: Lowering, **options: Any) -> dict[str, np.ndarray]:
    """Return the outputs of a lowered network."""
    model = network(**options)
    lower(model, lowering)
    return run(model)


def test_everything_lowered_leaves_float16_numbers() -> None:
    """Results are exact float16 numbers, and not those of float32."""
    full, low = lowered(Lowering(scope=Scope.NOTHING)), lowered(Lowering())
    for name in ("out", "r"):
        np.testing.assert_array_equal(low[name], half(low[name]))
        assert 0 < np.abs(low[name] - full[name]).max() < 0.05


def test_the_sum_itself_is_float32() -> None:
    """Convolution, normalisation and activation are one step: rounded inputs and weights, one rounding at the end."""
    low = lowered(Lowering())
    model = network()
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    kernel.CopyFrom(numpy_helper.from_array(half(numpy_helper.to_array(kernel)), "kernel"))
    np.testing.assert_allclose(low["r"], half(run(model, half(IMAGE))["r"]), atol=1e-3)


def test_mixed_precision_lowers_matrices_only() -> None:
    """Softmax computes in float32 on float16 numbers, so that its result is none."""
    mixed = lowered(Lowering(scope=Scope.MATRIX))
    np.testing.assert_array_equal(mixed["r"], half(mixed["r"]))
    assert np.any(mixed["out"] != half(mixed["out"]))
    listed = lowered(Lowering(scope=Scope.MATRIX, lower_types=frozenset({"Softmax"})))
    np.testing.assert_array_equal(listed["out"], half(listed["out"]))


def test_cube_inputs_in_float16_results_in_float32() -> None:
    """The convolution's inputs lose precision, its result does not."""
    cube = lowered(Lowering(scope=Scope.MATRIX, rounds_results=False))
    assert np.any(cube["r"] != half(cube["r"]))
    assert np.any(cube["r"] != lowered(Lowering(scope=Scope.NOTHING))["r"])


@pytest.mark.parametrize("changes", [{"keep_types": frozenset({"Softmax"})}, {"keep_nodes": frozenset({"softmax"})}])
def test_what_is_kept_computes_in_float32(changes: dict[str, Any]) -> None:
    """By type or by name; what comes before it is lowered all the same."""
    kept = lowered(replace(Lowering(), **changes))
    assert np.any(kept["out"] != half(kept["out"]))
    np.testing.assert_array_equal(kept["r"], half(kept["r"]))


@pytest.mark.parametrize("changes", [{"precise_types": frozenset({"Softmax"})}, {"precise_vectors": True}])
def test_precise_kernels_do_not_round_their_result(changes: dict[str, Any]) -> None:
    """The one visible effect of `high_precision`."""
    precise = lowered(replace(Lowering(), **changes))
    assert np.any(precise["out"] != half(precise["out"]))
    np.testing.assert_array_equal(precise["r"], half(precise["r"]))


def test_without_folding_normalisation_rounds_for_itself() -> None:
    """A fusion pass that is off shows in the numbers."""
    assert np.any(lowered(Lowering(folds_batchnorm=False))["r"] != lowered(Lowering())["r"])


@pytest.mark.parametrize("opset", [10, 11, 17])
def test_numbers_beyond_float16_become_its_largest(opset: int) -> None:
    """The chip saturates; it has no infinity in this mode."""
    low = lowered(Lowering(), gain=1e5, opset=opset)
    assert low["r"].max() == FLOAT16_LARGEST
    assert np.isfinite(low["out"]).all()


def test_weights_of_kept_operators_stay() -> None:
    """Only what a lowered operator reads is rounded."""
    model = network()
    kernel = numpy_helper.to_array(model.graph.initializer[0])
    lower(model, Lowering(keep_types=frozenset({"Conv"})))
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), kernel)
