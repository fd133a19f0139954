"""What the emulated ATC does to an ONNX: reads it, cuts it, fixes or opens its shapes, and says what became of it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from emulator.atc_errors import AtcError, inner_error, invalid_value, not_found
from emulator.atc_flags import OutputTypes
from emulator.atc_shapes import OPEN

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

NEWEST_OPSET: Final = 18
#: Of the file format: the one of that opset. ATC does not look at it, and what executes the OM knows no newer ones.
NEWEST_IR: Final = 8
#: Standard operators that no emulated chip has a kernel for; which they are on a real one depends on its CANN.
KERNEL_LESS: Final = frozenset(
    {"Bernoulli", "BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "Multinomial", "STFT"}
    | {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Unique", "Det", "MaxUnpool"}
)
#: Standard operators of values that are no tensors of numbers: ATC has no parser for them.
PARSER_LESS: Final = frozenset(
    {
        "StringNormalizer",
        "TfIdfVectorizer",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "ConcatFromSequence",
    }
    | {"SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"}
    | {"SequenceMap", "SplitToSequence"}
)
_LARGE_TENSOR_BYTES: Final = 4096


def load(path: Path) -> "ModelProto":
    """Read an ONNX and check that it can be compiled at all; raises AtcError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not path.is_file():
        raise invalid_value("--model", str(path), "the file does not exist or cannot be read.")
    try:
        model = onnx.load(path)
        # Operators first: an unknown one is reported as such, not as a model that is damaged.
        _check_parsers(model)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        raise AtcError("E16005", f"The model [{path}] is not a valid ONNX model: {error}") from error
    _check_kernels(model)
    model.ir_version = min(model.ir_version, NEWEST_IR)
    return model


def _all_nodes(graph: "GraphProto") -> Iterator["NodeProto"]:
    """Walk over the nodes of a graph, and of the branches and bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


def _check_parsers(model: "ModelProto") -> None:
    versions = {opset.domain or "ai.onnx": opset.version for opset in model.opset_import}
    for node in _all_nodes(model.graph):
        domain = node.domain or "ai.onnx"
        version = versions.get(domain, 0)
        if domain != "ai.onnx" or version > NEWEST_OPSET or not _is_standard(node.op_type, version):
            raise AtcError(
                "E19010",
                f"No parser is registered for Op [{node.name}, optype [{domain}::{version}::{node.op_type}]].",
                f"Export the model with opset {NEWEST_OPSET} or older, and standard operators.",
            )


def _is_standard(operator: str, opset: int) -> bool:
    """Tell whether ONNX has an operator in an opset, and whether it is one of tensors."""
    from onnx import defs

    return operator not in PARSER_LESS and bool(defs.has(operator, opset, ""))


def _check_kernels(model: "ModelProto") -> None:
    for node in _all_nodes(model.graph):
        if node.op_type in KERNEL_LESS:
            raise AtcError(
                "EZ3003",
                f"No supported Ops kernel and engine are found for [{node.name}], optype [{node.op_type}].",
                "1. Check that the OPP component is installed properly. 2. Submit an issue to request for the support "
                "of this operator type.",
                trace="build graph failed, graph id:0, ret:-1[FUNC:BuildModel][FILE:ge_generator.cc][LINE:1498]",
            )


def real_inputs(model: "ModelProto") -> list["ValueInfoProto"]:
    """Return the inputs that are fed: old models list their weights too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def set_shapes(model: "ModelProto", shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give inputs their shapes, -1 for open, and infer all others.

    Raises:
        AtcError: E10016 for an unknown input, E10001 for one whose shape stays unknown, E19999 for a contradiction.
    """
    inputs = {value.name: value for value in real_inputs(model)}
    for name, value in inputs.items():
        if name in shapes:
            _set_shape(value, shapes[name])
        elif OPEN in shape_of(value):
            raise invalid_value(name, "-1", "maybe you should set input_shape to specify its shape.")
    for name in shapes:
        if name not in inputs:
            raise not_found(name, "input_shape")
    infer(model)


def infer(model: "ModelProto") -> None:
    """Infer every tensor's type and shape anew; raises AtcError."""
    import onnx

    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        model.CopyFrom(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    except onnx.shape_inference.InferenceError as error:
        raise inner_error(f"Check input shape failed: {error}") from error
    for value in model.graph.output:
        if not value.type.tensor_type.HasField("shape"):
            raise inner_error(f"The rank of output [{value.name}] depends on data, which is not emulated.")


def _set_shape(value: "ValueInfoProto", wanted: tuple[int, ...]) -> None:
    dimensions = value.type.tensor_type.shape.dim
    if len(dimensions) not in {0, len(wanted)}:
        text = ",".join(str(size) for size in wanted)
        reason = f"the model's input [{value.name}] has {len(dimensions)} dimensions."
        raise invalid_value("--input_shape", f"{value.name}:{text}", reason)
    put_shape(value, wanted)


def put_shape(value: "ValueInfoProto", shape: tuple[int, ...]) -> None:
    """Write a shape as it is, whatever the rank was."""
    value.type.tensor_type.shape.SetInParent()
    dimensions = value.type.tensor_type.shape.dim
    del dimensions[:]
    for axis, size in enumerate(shape):
        dimension = dimensions.add()
        if size == OPEN:
            dimension.dim_param = "N" if axis == 0 else f"{value.name}_{axis}"
        else:
            dimension.dim_value = size


def shape_of(value: "ValueInfoProto") -> tuple[int, ...]:
    """Return a shape, with -1 for open dimensions."""
    return tuple(
        dimension.dim_value if dimension.WhichOneof("value") == "dim_value" else OPEN
        for dimension in value.type.tensor_type.shape.dim
    )


def skeleton(model: "ModelProto") -> "ModelProto":
    """Return a copy without large weights, for shape inference: they become inputs of the same type and shape."""
    from onnx import ModelProto, helper

    copy = ModelProto()
    copy.CopyFrom(model)
    large = [tensor for tensor in model.graph.initializer if tensor.ByteSize() > _LARGE_TENSOR_BYTES]
    small = [tensor for tensor in model.graph.initializer if tensor.ByteSize() <= _LARGE_TENSOR_BYTES]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(small)
    listed = {value.name for value in copy.graph.input}
    copy.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in large
        if tensor.name not in listed
    )
    return copy


def output_shapes(
    bare: "ModelProto", inputs: Mapping[str, tuple[int, ...]], names: Iterable[str]
) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of outputs for given input shapes; `bare` is a `skeleton`, which this changes."""
    for value in bare.graph.input:
        if value.name in inputs:
            put_shape(value, inputs[value.name])
    infer(bare)
    shapes = {value.name: shape_of(value) for value in bare.graph.output}
    return tuple(shapes[name] for name in names)


def cut(model: "ModelProto", out_nodes: tuple[str, ...]) -> None:
    """Make `node:index` the outputs of a model whose types are inferred, and drop what is not needed for them."""
    if not out_nodes:
        return
    types = {value.name: value for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
    outputs = [types.get(tensor_of(model, node, "out_nodes")) for node in out_nodes]
    if None in outputs:
        raise inner_error("The type of a node in [--out_nodes] is unknown.")
    kept = [value for value in outputs if value is not None]
    if len({value.name for value in kept}) != len(kept):
        raise invalid_value("--out_nodes", ";".join(out_nodes), "a node is listed twice.")
    del model.graph.output[:]
    model.graph.output.extend(kept)
    needed = {value.name for value in kept}
    nodes: list[NodeProto] = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.insert(0, node)
            needed.update(node.input)
            needed.update(_outer_names(node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)


def _outer_names(node: "NodeProto") -> set[str]:
    """Return the names that the branches and bodies of a node use, from outside or not."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inner = [each for body in bodies for each in body.node]
    names = {name for each in inner for name in each.input} | {value.name for body in bodies for value in body.output}
    return names.union(*(_outer_names(each) for each in inner)) if inner else names


def tensor_of(model: "ModelProto", node: str, flag: str) -> str:
    """Return the tensor that `node:index` means; raises AtcError."""
    name, _, index = node.rpartition(":")
    for each in model.graph.node:
        if each.name == name and int(index) < len(each.output):
            return str(each.output[int(index)])
    raise not_found(name, flag)


def output_kinds(model: "ModelProto", types: OutputTypes) -> dict[str, str]:
    """Return the outputs that `--output_type` singles out or means altogether: name -> numpy's name of the type.

    To be asked while nodes still have the outputs that they had in the file: lowering puts others in between.

    Raises:
        AtcError: E10016 for a node that is not there, E10001 for one that is no output.
    """
    outputs = [value.name for value in model.graph.output]
    kinds = {} if types.everywhere is None else dict.fromkeys(outputs, types.everywhere)
    for node, kind in types.single:
        tensor = tensor_of(model, node, "output_type")
        if tensor not in outputs:
            raise invalid_value("--output_type", node, "the node is not an output of the model.")
        kinds[tensor] = kind
    return kinds


def cast_outputs(model: "ModelProto", kinds: Mapping[str, str]) -> None:
    """Cast those outputs among `kinds` that are floating-point numbers; they keep their names."""
    from onnx import TensorProto

    for value in model.graph.output:
        if value.name in kinds and value.type.tensor_type.elem_type in {TensorProto.FLOAT, TensorProto.FLOAT16}:
            _cast_output(model, value, kinds[value.name])


def _cast_output(model: "ModelProto", value: "ValueInfoProto", kind: str) -> None:
    """Cast one output, which keeps its name."""
    import numpy as np
    from onnx import helper

    wanted = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    if value.type.tensor_type.elem_type == wanted:
        return
    inner = f"emulated_output/{value.name}"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == value.name:
                    names[position] = inner
    model.graph.node.append(helper.make_node("Cast", [inner], [value.name], to=wanted))
    value.type.tensor_type.elem_type = wanted


def set_float16_inputs(model: "ModelProto", names: tuple[str, ...]) -> None:
    """Let inputs take float16; raises AtcError for a name that is no input."""
    from onnx import TensorProto, helper

    inputs = {value.name: value for value in real_inputs(model)}
    for name in names:
        if name not in inputs:
            raise not_found(name, "input_fp16_nodes")
        value = inputs[name]
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            continue
        inner = f"emulated_input/{name}"
        for node in model.graph.node:
            for position, used in enumerate(node.input):
                if used == name:
                    node.input[position] = inner
        model.graph.node.insert(0, helper.make_node("Cast", [name], [inner], to=TensorProto.FLOAT))
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
