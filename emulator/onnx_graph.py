"""What the emulated ATC does to an ONNX: fixes the input shapes and applies the precision mode.

Precision: modes that lower the model round every float32 weight through float16 (values beyond its range become its
largest). Activations and sums stay float32, so the effect is milder than a chip's; what is emulated is that precision
is lost, and where a mix list keeps it.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from emulator.atc_flags import AtcError, AtcOptions, Mixlist, invalid_value
from emulator.om import TensorInfo

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

NEWEST_OPSET: Final = 18
_ACL_FORMATS: Final = {"NCHW": 0, "ND": 2, "NCDHW": 30}
_IMAGE_RANK: Final = 4
_FLOAT16_LARGEST: Final = float(np.finfo(np.float16).max)


def load(path: Path) -> "ModelProto":
    """Read an ONNX and check that it can be compiled at all; raises AtcError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not path.is_file():
        raise invalid_value("--model", str(path), "the file does not exist or cannot be read.")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise AtcError("E16005", f"The model [{path}] is not a valid ONNX model: {error}") from error
    _check_operators(model)
    return model


def _check_operators(model: "ModelProto") -> None:
    versions = {opset.domain or "ai.onnx": opset.version for opset in model.opset_import}
    for node in model.graph.node:
        domain = node.domain or "ai.onnx"
        version = versions.get(domain, 0)
        if domain != "ai.onnx" or version > NEWEST_OPSET:
            raise AtcError(
                "E19010",
                f"No parser is registered for Op [{node.name}, optype [{domain}::{version}::{node.op_type}]].",
                f"Export the model with opset {NEWEST_OPSET} or older, and standard operators.",
            )


def fix_shapes(model: "ModelProto", options: AtcOptions) -> None:
    """Give every input the shape of the command line and infer the rest; raises AtcError."""
    import onnx

    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in known]
    for value in inputs:
        wanted = options.input_shapes.get(value.name)
        if wanted is not None:
            _set_shape(value, wanted)
        if -1 in shape_of(value):
            reason = "maybe you should set input_shape to specify its shape."
            raise invalid_value(value.name, "-1", reason)
    for name in options.input_shapes.keys() - {value.name for value in inputs}:
        raise AtcError(
            "E10016", f"Opname [{name}] specified in [--input_shape] is not found in the model.", "Correct the name."
        )
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise AtcError("E19999", f"Inner Error! Check input shape failed: {error}") from error
    model.CopyFrom(inferred)
    _check_outputs(model.graph)


def _set_shape(value: "ValueInfoProto", wanted: tuple[int, ...]) -> None:
    dimensions = value.type.tensor_type.shape.dim
    if dimensions and len(dimensions) != len(wanted):
        text = ",".join(str(size) for size in wanted)
        reason = f"the model's input [{value.name}] has {len(dimensions)} dimensions."
        raise invalid_value("--input_shape", f"{value.name}:{text}", reason)
    del dimensions[:]
    for size in wanted:
        dimensions.add().dim_value = size


def _check_outputs(graph: "GraphProto") -> None:
    for value in graph.output:
        if not value.type.tensor_type.HasField("shape") or -1 in shape_of(value):
            raise AtcError(
                "E19999", f"Inner Error! The shape of output [{value.name}] depends on data, which is not emulated."
            )


def shape_of(value: "ValueInfoProto") -> tuple[int, ...]:
    """Return a shape, with -1 for open dimensions."""
    return tuple(
        dimension.dim_value if dimension.WhichOneof("value") == "dim_value" else -1
        for dimension in value.type.tensor_type.shape.dim
    )


def describe(values: Iterable["ValueInfoProto"], input_format: str = "ND") -> tuple[TensorInfo, ...]:
    """Return names, numpy dtypes, shapes and ACL formats; images have the format of the command line."""
    from onnx.helper import tensor_dtype_to_np_dtype

    return tuple(
        TensorInfo(
            name=value.name,
            dtype=tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            shape=shape_of(value),
            format=_ACL_FORMATS[input_format if len(shape_of(value)) >= _IMAGE_RANK else "ND"],
        )
        for value in values
    )


def round_weights(graph: "GraphProto", mixlist: Mixlist) -> None:
    """Round float32 weights through float16, but for those that only operators of the mix list's black list use."""
    users: dict[str, set[str]] = defaultdict(set)
    for node in graph.node:
        for name in node.input:
            users[name].add(node.op_type)
    kept = mixlist.keep_float32 - mixlist.lower
    for tensor in graph.initializer:
        if not users[tensor.name] or not users[tensor.name] <= kept:
            _round(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.HasField("t") and not users[node.output[0]] <= kept:
                _round(attribute.t)


def _round(tensor: "TensorProto") -> None:
    from onnx import TensorProto as Kinds
    from onnx.numpy_helper import from_array, to_array

    if tensor.data_type != Kinds.FLOAT:
        return
    limited = np.clip(to_array(tensor), -_FLOAT16_LARGEST, _FLOAT16_LARGEST)
    tensor.CopyFrom(from_array(limited.astype(np.float16).astype(np.float32), tensor.name))
