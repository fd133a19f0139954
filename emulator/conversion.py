"""One conversion: a checked command line in, an OM out, every flag applied in the order that the flags mean.

The ONNX in the OM computes in float32 what a chip would compute with the precision of the flags; see
`emulator.precision` for what is modelled.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from emulator import aipp_graph, om, onnx_graph, precision
from emulator.aipp_graph import AippInput
from emulator.atc_errors import AtcError
from emulator.atc_flags import AtcOptions
from emulator.atc_shapes import OPEN, InputShape

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

_ACL_FORMATS: Final = {"NCHW": 0, "NHWC": 1, "ND": 2, "NCDHW": 30}
_IMAGE_RANK: Final = 4

Shapes = dict[str, tuple[int, ...]]


def convert(options: AtcOptions, toolkit_version: str) -> Path:
    """Convert a model and return the OM's path; raises AtcError.

    Leaves `kernel_meta/` and `fusion_result.json`, as the real one does.
    """
    model = onnx_graph.load(options.model)
    shapes = {name: shape.sizes for name, shape in options.input_shapes.items()}
    options.kept.check((node.name, node.op_type) for node in model.graph.node)
    onnx_graph.set_shapes(model, shapes)
    onnx_graph.cut(model, options.out_nodes)
    kinds = onnx_graph.output_kinds(model, options.output_types)
    precision.lower(model, options.lowering)
    onnx_graph.cast_outputs(model, kinds)
    pictures = _insert_aipp(model, options)
    onnx_graph.set_float16_inputs(model, options.fp16_inputs)
    onnx_graph.infer(model)
    described = _Description(model, options, pictures)
    description = om.OmDescription(
        soc_version=options.soc_version,
        toolkit_version=toolkit_version,
        precision_mode=options.precision_mode,
        batch=described.batch,
        inputs=described.inputs,
        outputs=described.outputs,
        gear_kind=None if options.gears is None else options.gears.kind,
        gears=described.gears,
        out_nodes=options.out_nodes,
    )
    # A model of dynamic shape carries code for the host, and so its architecture in the name.
    suffix = f"_linux_{platform.machine()}" if described.is_dynamic else ""
    target = options.output.with_name(f"{options.output.name}{suffix}.om")
    data = om.encode(options.output.name, description, model.SerializeToString(deterministic=True))
    try:
        (options.debug_dir / "kernel_meta").mkdir(parents=True, exist_ok=True)
        Path("fusion_result.json").write_text("[]\n", "utf-8")
        om.write(target, data)
    except OSError as error:
        raise AtcError("E10022", f"The path [{target}] of [--output] cannot be written: {error}") from error
    return target


def _insert_aipp(model: "ModelProto", options: AtcOptions) -> dict[str, AippInput]:
    from onnx import TensorProto

    if not options.aipp:
        return {}
    inputs = onnx_graph.real_inputs(model)
    found = aipp_graph.insert(model, options.aipp, {value.name: onnx_graph.shape_of(value) for value in inputs})
    pictures = {each.name: each for each in found}
    for value in inputs:
        if value.name not in pictures:
            continue
        if value.name in options.fp16_inputs:
            raise AtcError("E10034", f"Nodes (for example, [{value.name}]) connected to AIPP must not be of type fp16.")
        value.type.tensor_type.elem_type = TensorProto.UINT8
        onnx_graph.put_shape(value, pictures[value.name].shape(onnx_graph.shape_of(value)[0]))
    return pictures


@dataclass(frozen=True)
class _Description:
    """What the OM says of a finished model."""

    model: "ModelProto"
    options: AtcOptions
    pictures: Mapping[str, AippInput]

    @property
    def _compiled_shapes(self) -> Shapes:
        return {value.name: onnx_graph.shape_of(value) for value in onnx_graph.real_inputs(self.model)}

    @cached_property
    def gears(self) -> tuple[om.Gear, ...]:
        """Return every gear with the shapes that it gives; raises AtcError where the model does not take one."""
        if self.options.gears is None:
            return ()
        bare = onnx_graph.skeleton(self.model)
        names = [value.name for value in self.model.graph.output]
        found = []
        for values in self.options.gears.values:
            inputs = self._bound(values)
            outputs = onnx_graph.output_shapes(bare, inputs, names)
            found.append(om.Gear(values=values, inputs=tuple(inputs.values()), outputs=outputs))
        return tuple(found)

    def _bound(self, values: tuple[int, ...]) -> Shapes:
        """Return all input shapes of one gear, in the model's order."""
        gears = self.options.gears
        if gears is None:
            return self._compiled_shapes
        bound = gears.bind(self.options.input_shapes, values)
        return {
            name: self.pictures[name].shape(bound.get(name, shape)[0])
            if name in self.pictures
            else bound.get(name, shape)
            for name, shape in self._compiled_shapes.items()
        }

    @property
    def is_dynamic(self) -> bool:
        """Tell whether shapes are open without gears."""
        return self.options.gears is None and any(OPEN in shape for shape in self._compiled_shapes.values())

    @property
    def batch(self) -> int:
        """Return the first dimension of the first input, the largest over the gears; 1 where it is open."""
        shapes = [next(iter(gear.inputs), ()) for gear in self.gears] or [
            next(iter(self._compiled_shapes.values()), ())
        ]
        return max((shape[0] for shape in shapes if shape and shape[0] != OPEN), default=1)

    @property
    def inputs(self) -> tuple[om.TensorInfo, ...]:
        """Return the inputs with formats, limits and pictures."""
        return tuple(self._input(value) for value in onnx_graph.real_inputs(self.model))

    def _input(self, value: "ValueInfoProto") -> om.TensorInfo:
        info = _describe(value, self.options.input_format)
        picture = self.pictures.get(value.name)
        told = self.options.input_shapes.get(value.name, InputShape(sizes=info.shape))
        if picture is not None:
            return replace(info, format=_ACL_FORMATS["NHWC"], aipp=picture.info)
        return replace(info, limits=told.limits if self.is_dynamic else ())

    @property
    def outputs(self) -> tuple[om.TensorInfo, ...]:
        """Return the outputs; open where they depend on the gear or on what is fed."""
        found = tuple(_describe(value, "ND") for value in self.model.graph.output)
        if self.options.gears is None and not self.is_dynamic and any(OPEN in info.shape for info in found):
            raise AtcError("E19999", "Inner Error! The shape of an output depends on data, which is not emulated.")
        return found


def _describe(value: "ValueInfoProto", image_format: str) -> om.TensorInfo:
    from onnx.helper import tensor_dtype_to_np_dtype

    shape = onnx_graph.shape_of(value)
    return om.TensorInfo(
        name=value.name,
        dtype=tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
        shape=shape,
        format=_ACL_FORMATS[image_format if len(shape) >= _IMAGE_RANK else "ND"],
    )
