"""Small OMs for the emulated runtime, written without `atc`: relu of the sum of the inputs, plus one.

Of whole numbers, which onnxruntime has fewer kernels for: the first input as it is.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import helper

from emulator import om
from emulator.om import Gear, GearKind, OmDescription, TensorInfo

IMAGE = (2, 3, 4, 4)


def write_om(
    path: Path,
    *,
    shape: Sequence[int] = IMAGE,
    names: Sequence[str] = ("x",),
    dtype: str = "float32",
    kind: GearKind | None = None,
    gears: Sequence[tuple[tuple[int, ...], tuple[int, ...]]] = (),
    limits: Sequence[tuple[int, int]] = (),
) -> Path:
    """Write an OM whose inputs `names` and output `y` all have one shape, and return its path.

    Args:
        path: of the OM.
        shape: -1 where it is open.
        names: of the inputs.
        dtype: of everything, numpy's name.
        kind: of the gears.
        gears: values on ATC's command line and the shape they mean.
        limits: of the axes of a dynamic shape.
    """
    inputs = tuple(TensorInfo(name=name, dtype=dtype, shape=tuple(shape), limits=tuple(limits)) for name in names)
    count = len(names)
    description = OmDescription(
        soc_version="Ascend310P3",
        toolkit_version="8.0.0-emulated",
        precision_mode="force_fp32",
        batch=max([shape[0], *(geared[0] for _, geared in gears), 1]),
        inputs=inputs,
        outputs=(TensorInfo(name="y", dtype=dtype, shape=tuple(shape)),),
        gear_kind=kind,
        gears=tuple(Gear(values=values, inputs=(geared,) * count, outputs=(geared,)) for values, geared in gears),
    )
    path.write_bytes(om.encode(path.stem, description, _onnx(shape, names, dtype)))
    return path


def write_onnx(path: Path, *, shape: Sequence[int | str] = ("N", 3, 4, 4), names: Sequence[str] = ("x",)) -> Path:
    """Write the same function as float32 ONNX, and return its path."""
    path.write_bytes(_onnx(shape, names, "float32"))
    return path


def _onnx(shape: Sequence[int | str], names: Sequence[str], dtype: str) -> bytes:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    axes = [f"d{index}" if size == -1 else size for index, size in enumerate(shape)]
    nodes = [helper.make_node("Identity", [names[0]], ["y"])]
    if np.dtype(dtype).kind == "f":
        nodes = [
            helper.make_node("Sum", list(names), ["s"]),
            helper.make_node("Relu", ["s"], ["r"]),
            helper.make_node("Add", ["r", "one"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, axes) for name in names],
        [helper.make_tensor_value_info("y", kind, axes)],
        [helper.make_tensor("one", kind, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))
