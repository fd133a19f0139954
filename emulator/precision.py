"""What ATC's precision flags make of a model: which operators lose precision, and where numbers are rounded.

Modelled, on a model that onnxruntime computes in float32: a lowered operator gets its weights and activations rounded
to float16 (values beyond its range become its largest, as in the chip's saturation mode), computes with float32 sums as
the cube unit does, and has its result rounded once more; operators that only move or compare numbers round nothing.
Batch normalisation is folded into the operator before it. Not modelled: the inner workings of a kernel, so that
`high_precision` kernels are those whose result is not rounded.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

FLOAT16_LARGEST: Final = float(np.finfo(np.float16).max)
_MATRIX_TYPES: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Types whose result is one of their inputs' numbers: exact in float16 when the inputs are.
_EXACT_TYPES: Final = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Gather"}
    | {"GatherElements", "GatherND", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth", "Dropout", "Where"}
    | {"Relu", "Abs", "Neg", "Max", "Min", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "TopK", "Clip"}
    | {"ScatterElements", "ScatterND", "NonMaxSuppression"}
)
#: Types that ATC computes together with the operator before them, without rounding in between.
_FOLLOWERS: Final = frozenset({"Relu", "LeakyRelu", "Clip", "PRelu"})
#: Positions of the inputs that are numbers to compute with, of types where the others are settings.
_DATA_INPUTS: Final = {"Resize": (0,), "Upsample": (0,), "NonMaxSuppression": (0, 1), "Range": (), "Pad": (0,)}
_CLIP_INPUTS_SINCE: Final = 11
_PREFIX: Final = "emulated_float16"


class Scope(StrEnum):
    """Which operators a precision mode lowers."""

    NOTHING = "nothing"
    MATRIX = "matrix"  #: convolutions and matrix products, whose numbers the cube unit takes in float16
    EVERYTHING = "everything"


@dataclass(frozen=True, kw_only=True)
class Lowering:
    """What to lower.

    Attributes:
        scope: of the precision mode.
        rounds_results: whether a lowered operator's result is rounded too.
        keep_types: operator types that stay in float32 whatever the scope.
        lower_types: operator types that are lowered whatever the scope, unless it is NOTHING.
        keep_nodes: names of nodes that stay in float32.
        precise_types: types whose kernels are precise: their result is not rounded.
        precise_vectors: whether all but convolutions and matrix products are precise.
        folds_batchnorm: whether batch normalisation is folded into the operator before it.
    """

    scope: Scope = Scope.EVERYTHING
    rounds_results: bool = True
    keep_types: frozenset[str] = frozenset()
    lower_types: frozenset[str] = frozenset()
    keep_nodes: frozenset[str] = frozenset()
    precise_types: frozenset[str] = frozenset()
    precise_vectors: bool = False
    folds_batchnorm: bool = True

    def lowers(self, node: "NodeProto") -> bool:
        """Tell whether a node computes in float16."""
        if self.scope is Scope.NOTHING or node.name in self.keep_nodes:
            return False
        if node.op_type in self.lower_types:
            return True
        in_scope = self.scope is Scope.EVERYTHING or node.op_type in _MATRIX_TYPES
        return in_scope and node.op_type not in self.keep_types

    def rounds(self, node: "NodeProto", *, folded: bool) -> bool:
        """Tell whether a lowered node's result is rounded; `folded`: it ends what a matrix operator began."""
        vector = not folded and node.op_type not in _MATRIX_TYPES
        precise = node.op_type in self.precise_types or (self.precise_vectors and vector)
        return self.rounds_results and not precise


def lower(model: "ModelProto", lowering: Lowering) -> None:
    """Apply a lowering to a model whose tensors have types (shape inference has run)."""
    if lowering.scope is not Scope.NOTHING:
        _Lowerer(model, lowering).apply()


@dataclass
class _Rounding:
    """Nodes that round: what is put before and after one node of the model."""

    before: list["NodeProto"] = field(default_factory=list)
    after: list["NodeProto"] = field(default_factory=list)


class _Lowerer:
    """Walks the graph once, in its topological order, knowing which tensors are in float16 already."""

    def __init__(self, model: "ModelProto", lowering: Lowering) -> None:
        from onnx import TensorProto

        self._graph: GraphProto = model.graph
        self._lowering = lowering
        self._opset = next((each.version for each in model.opset_import if not each.domain), _CLIP_INPUTS_SINCE)
        self._weights = {tensor.name: tensor for tensor in self._graph.initializer}
        self._outputs = {value.name for value in self._graph.output}
        typed = (*self._graph.input, *self._graph.value_info, *self._graph.output)
        self._floats = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._users: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self._graph.node:
            for name in node.input:
                self._users[name].append(node)
        self._half: set[str] = set()
        self._copies: dict[str, str] = {}
        self._rounded_weights: set[str] = set()
        self._folded: set[str] = set()

    def apply(self) -> None:
        """Round the weights, and put roundings between the nodes."""
        nodes: list[NodeProto] = []
        for node in self._graph.node:
            rounding = self._visit(node)
            nodes += [*rounding.before, node, *rounding.after]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        del self._graph.value_info[:]

    def _visit(self, node: "NodeProto") -> _Rounding:
        rounding = _Rounding()
        data = list(self._data_inputs(node))
        folded = bool(node.input) and node.input[0] in self._folded
        if node.op_type == "Constant":
            self._round_constant(node)
        elif folded or self._lowering.lowers(node):
            # What batch normalisation multiplies with goes into the weights before it, and is rounded with them.
            for position in () if folded and node.op_type == "BatchNormalization" else data:
                self._lower_input(node, position, rounding)
            self._lower_result(node, rounding, folded=folded)
        elif node.op_type in _EXACT_TYPES:
            floats = [node.input[position] for position in data if node.input[position] in self._floats]
            if floats and self._half.issuperset(floats):
                self._half.update(node.output)
        return rounding

    def _lower_result(self, node: "NodeProto", rounding: _Rounding, *, folded: bool) -> None:
        if self._is_computed_with_next(node, folded=folded):
            self._folded.add(node.output[0])
        elif node.op_type in _EXACT_TYPES and not folded:
            self._half.update(node.output)
        elif self._lowering.rounds(node, folded=folded):
            for position, name in enumerate(node.output):
                if name in self._floats:
                    node.output[position] = f"{_PREFIX}/{name}/sum"
                    rounding.after += self._rounding_nodes(node.output[position], name)
                    self._half.add(name)

    def _data_inputs(self, node: "NodeProto") -> Iterator[int]:
        for position in _DATA_INPUTS.get(node.op_type, range(len(node.input))):
            if position < len(node.input) and node.input[position]:
                yield position

    def _lower_input(self, node: "NodeProto", position: int, rounding: _Rounding) -> None:
        name = node.input[position]
        if name in self._weights:
            if name not in self._rounded_weights:
                round_tensor(self._weights[name])
                self._rounded_weights.add(name)
        elif name in self._floats and name not in self._half | self._folded:
            if name not in self._copies:
                self._copies[name] = f"{_PREFIX}/{name}"
                rounding.before += self._rounding_nodes(name, self._copies[name])
            node.input[position] = self._copies[name]

    def _round_constant(self, node: "NodeProto") -> None:
        """Round a constant as a weight, unless all who use it stay in float32."""
        if not any(self._lowering.lowers(user) for user in self._users[node.output[0]]):
            return
        for attribute in node.attribute:
            if attribute.name == "value":
                round_tensor(attribute.t)
        self._half.update(node.output)

    def _is_computed_with_next(self, node: "NodeProto", *, folded: bool) -> bool:
        """Tell whether the only user of a node's result is computed in one go with it."""
        users = self._users[node.output[0]]
        if not (folded or node.op_type in _MATRIX_TYPES) or len(users) != 1 or node.output[0] in self._outputs:
            return False
        follower = users[0]
        joins = follower.op_type in _FOLLOWERS or (
            follower.op_type == "BatchNormalization" and self._lowering.folds_batchnorm
        )
        kept = follower.name in self._lowering.keep_nodes or follower.op_type in self._lowering.keep_types
        return joins and not kept and follower.input[0] == node.output[0]

    def _rounding_nodes(self, source: str, target: str) -> list["NodeProto"]:
        from onnx import TensorProto, helper

        limited, half = f"{target}/limited", f"{target}/half"
        if self._opset < _CLIP_INPUTS_SINCE:
            clip = helper.make_node("Clip", [source], [limited], min=-FLOAT16_LARGEST, max=FLOAT16_LARGEST)
        else:
            clip = helper.make_node("Clip", [source, *self._limits()], [limited])
        return [
            clip,
            helper.make_node("Cast", [limited], [half], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [half], [target], to=TensorProto.FLOAT),
        ]

    def _limits(self) -> tuple[str, str]:
        """Return the names of float16's limits, two more initializers of the graph."""
        from onnx.numpy_helper import from_array

        names = (f"{_PREFIX}/smallest", f"{_PREFIX}/largest")
        if names[0] not in self._weights:
            for name, value in zip(names, (-FLOAT16_LARGEST, FLOAT16_LARGEST), strict=True):
                tensor = from_array(np.array(value, np.float32), name)
                self._graph.initializer.append(tensor)
                self._weights[name] = tensor
        return names


def round_tensor(tensor: "TensorProto") -> None:
    """Round a float32 tensor through float16, in place; values beyond its range become its largest."""
    from onnx import TensorProto as Kinds
    from onnx.numpy_helper import from_array, to_array

    if tensor.data_type != Kinds.FLOAT:
        return
    limited = np.clip(to_array(tensor), -FLOAT16_LARGEST, FLOAT16_LARGEST)
    tensor.CopyFrom(from_array(limited.astype(np.float16).astype(np.float32), tensor.name))
