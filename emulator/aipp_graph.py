"""Static AIPP as ONNX nodes before the model: from the bytes of a picture to what the model's input was.

In the order of the chip: crop, swap of channels, colour conversion, (pixel - mean - minimum) x factor, padding. The
new input has the old one's name, dtype uint8 and the picture's layout: (N, H, W, channels), for YUV420SP
(N, 3/2 x H, W, 1). Colour conversion is matrix x (pixel - input bias) / 256 + output bias, rounded down to whole
numbers from 0 to 255.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from emulator.aipp import FORMATS, AippOp
from emulator.atc_errors import AtcError
from emulator.om import AippInfo

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_PREFIX: Final = "emulated_aipp"
_IMAGE_RANK: Final = 4
_LUMA_ROWS: Final = 1.5  # rows of a YUV420SP picture per row of the image
#: What the chip converts YUV to when the configuration has no matrix: BGR of BT.601.
_YUV_MATRIX: Final = (298, 516, 0, 298, -100, -208, 298, 0, 409)
_YUV_BIAS: Final = (16, 128, 128)
_OLDEST_OPSET: Final = 11


@dataclass(frozen=True, kw_only=True)
class AippInput:
    """An input with AIPP: what the picture looks like."""

    name: str
    info: AippInfo

    def shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the bytes that are fed."""
        height, width = self.info.source_height, self.info.source_width
        if self.info.input_format == "YUV420SP_U8":
            return (batch, int(height * _LUMA_ROWS), width, 1)
        return (batch, height, width, FORMATS[self.info.input_format])


def insert(model: "ModelProto", ops: tuple[AippOp, ...], shapes: dict[str, tuple[int, ...]]) -> list[AippInput]:
    """Put AIPP before the inputs that the configuration names.

    Args:
        model: its nodes change; dtype and shape of its inputs are the caller's to set.
        ops: the configuration.
        shapes: the model's input shapes (N, C, H, W); N may be open.

    Raises:
        AtcError: E10052, the configuration does not fit the model.
    """
    if any(not each.domain and each.version < _OLDEST_OPSET for each in model.opset_import):
        _refuse(f"AIPP is emulated for models of opset {_OLDEST_OPSET} and newer")
    names = list(shapes)
    found: list[AippInput] = []
    for op in ops:
        name = op.related_input_name or (names[op.related_input_rank] if op.related_input_rank < len(names) else "")
        if name not in shapes:
            _refuse(
                f"Top name {name}convert rank failed, Please ensure top name in aipp config is the top name of data "
                "node."
                if op.related_input_name
                else f"Can not find the data node by aipp parameter related_input_rank {op.related_input_rank}"
            )
        if name in {each.name for each in found}:
            _refuse(f"input {name} has AIPP twice")
        found.append(_Preprocessing(model.graph, op, name, shapes[name]).insert())
    return found


def _refuse(reason: str) -> NoReturn:
    raise AtcError("E10052", f"AIPP configuration is invalid. Reason: [{reason}].")


@dataclass
class _Preprocessing:
    """Builds the nodes of one input."""

    graph: "GraphProto"
    op: AippOp
    name: str
    shape: tuple[int, ...]
    nodes: list["NodeProto"] = field(default_factory=list)
    constants: list["TensorProto"] = field(default_factory=list)

    def insert(self) -> AippInput:
        """Write nodes and constants into the graph and return the new input."""
        info = self._check()
        last = self._picture(info)
        last = self._crop(last)
        last = self._channels(last)
        last = self._padding(last)
        image = f"{_PREFIX}/{self.name}"
        for node in self.graph.node:
            for position, used in enumerate(node.input):
                if used == self.name:
                    node.input[position] = image
        self._node("Identity", [last], image)
        old = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*self.nodes, *old])
        self.graph.initializer.extend(self.constants)
        return AippInput(name=self.name, info=info)

    def _check(self) -> AippInfo:
        """Return the picture's layout; the sizes of crop and padding have to give the model's input."""
        if len(self.shape) != _IMAGE_RANK or min(self.shape[1:]) < 1:
            _refuse(f"input {self.name} is not an image of fixed channels, height and width")
        _, channels, height, width = self.shape
        sizes = self.op.sizes.get
        pad_w = sizes("left_padding_size", 0) + sizes("right_padding_size", 0) if self._on("padding") else 0
        pad_h = sizes("top_padding_size", 0) + sizes("bottom_padding_size", 0) if self._on("padding") else 0
        self._cut_w = (sizes("crop_size_w", 0) or width - pad_w) if self._on("crop") else width - pad_w
        self._cut_h = (sizes("crop_size_h", 0) or height - pad_h) if self._on("crop") else height - pad_h
        source_w = sizes("src_image_size_w", 0) or self._cut_w
        source_h = sizes("src_image_size_h", 0) or self._cut_h
        if (self._cut_w + pad_w, self._cut_h + pad_h) != (width, height):
            _refuse(f"the image is {self._cut_w + pad_w} x {self._cut_h + pad_h}, the model takes {width} x {height}")
        if not self._on("crop") and (source_w, source_h) != (self._cut_w, self._cut_h):
            _refuse(f"the source image of {source_w} x {source_h} needs crop to give {self._cut_w} x {self._cut_h}")
        if self._start("w") + self._cut_w > source_w or self._start("h") + self._cut_h > source_h:
            _refuse("the crop lies outside of the source image")
        if self.op.input_format == "YUV420SP_U8" and (
            source_w % 2 or source_h % 2 or self._start("w") % 2 or self._start("h") % 2
        ):
            _refuse("YUV420SP_U8 needs even sizes and positions")
        out = 1 if self.op.input_format == "YUV400_U8" else 3
        if channels not in {out, FORMATS[self.op.input_format]}:
            _refuse(f"{self.op.input_format} gives {out} channels, the model takes {channels}")
        return AippInfo(input_format=self.op.input_format, source_height=source_h, source_width=source_w)

    def _on(self, switch: str) -> bool:
        return switch in self.op.switches

    def _start(self, axis: str) -> int:
        return self.op.sizes.get(f"load_start_pos_{axis}", 0) if self._on("crop") else 0

    def _picture(self, info: AippInfo) -> str:
        """Return the picture as float32 (N, channels, H, W)."""
        last = self._node("Cast", [self.name], to=1)
        if info.input_format != "YUV420SP_U8":
            return self._node("Transpose", [last], perm=[0, 3, 1, 2])
        height, width = info.source_height, info.source_width
        luma = self._slice(last, (1,), (0,), (height,))
        luma = self._node("Transpose", [luma], perm=[0, 3, 1, 2])
        chroma = self._slice(last, (1,), (height,), (height + height // 2,))
        chroma = self._node("Reshape", [chroma, self._constant([-1, height // 2, width // 2, 2], np.int64)])
        chroma = self._node("Transpose", [chroma], perm=[0, 3, 1, 2])
        scales = self._constant([1, 1, 2, 2], np.float32)
        region = self._constant([], np.float32)
        chroma = self._node(
            "Resize",
            [chroma, region, scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return self._node("Concat", [luma, chroma], axis=1)

    def _crop(self, last: str) -> str:
        if not self._on("crop"):
            return last
        top, left = self._start("h"), self._start("w")
        return self._slice(last, (2, 3), (top, left), (top + self._cut_h, left + self._cut_w))

    def _channels(self, last: str) -> str:
        """Swap, convert colours, subtract and scale; returns float32 (N, model's channels, H, W)."""
        count = FORMATS[self.op.input_format]
        order = list(range(count))
        if count == _IMAGE_RANK and self._on("ax_swap_switch"):
            order = [*order[1:], order[0]]
        if self._on("rbuv_swap_switch"):
            first, second = (1, 2) if self.op.input_format == "YUV420SP_U8" else (0, 2)
            order[first], order[second] = order[second], order[first]
        if order != list(range(count)):
            last = self._node("Gather", [last, self._constant(order, np.int64)], axis=1)
        wanted = self.shape[1]
        if wanted < count:
            last = self._slice(last, (1,), (0,), (wanted,))
        if self._on("csc_switch") and wanted == len(_YUV_BIAS):
            last = self._converted(last)
        shift = [self._number("mean_chn", c) + self._number("min_chn", c) for c in range(wanted)]
        factor = [self._number("var_reci_chn", c, 1.0) for c in range(wanted)]
        if any(shift):
            last = self._node("Sub", [last, self._per_channel(shift)])
        if any(value != 1.0 for value in factor):
            last = self._node("Mul", [last, self._per_channel(factor)])
        return last

    def _converted(self, last: str) -> str:
        numbers = self.op.numbers
        names = [f"matrix_r{row}c{column}" for row in range(3) for column in range(3)]
        given = any(name in numbers for name in names)
        if not given and self.op.input_format != "YUV420SP_U8":
            _refuse("csc_switch is on, but there is no matrix")
        matrix = [numbers.get(name, 0.0) for name in names] if given else list(_YUV_MATRIX)
        bias = [numbers.get(f"input_bias_{c}", 0.0 if given else float(_YUV_BIAS[c])) for c in range(3)]
        last = self._node("Sub", [last, self._per_channel(bias)])
        kernel = self._constant(np.array(matrix, np.float32).reshape(3, 3, 1, 1) / 256, np.float32)
        last = self._node("Conv", [last, kernel])
        last = self._node("Add", [last, self._per_channel([numbers.get(f"output_bias_{c}", 0.0) for c in range(3)])])
        last = self._node("Floor", [last])
        return self._node("Clip", [last, self._constant(0, np.float32), self._constant(255, np.float32)])

    def _number(self, kind: str, channel: int, default: float = 0.0) -> float:
        return self.op.numbers.get(f"{kind}_{channel}", default)

    def _padding(self, last: str) -> str:
        if not self._on("padding"):
            return last
        sizes = [self.op.sizes.get(f"{side}_padding_size", 0) for side in ("top", "left", "bottom", "right")]
        pads = self._constant([0, 0, *sizes[:2], 0, 0, *sizes[2:]], np.int64)
        value = self._constant(self.op.numbers.get("cpadding_value", 0.0), np.float32)
        return self._node("Pad", [last, pads, value], mode="constant")

    def _slice(self, last: str, axes: tuple[int, ...], starts: tuple[int, ...], ends: tuple[int, ...]) -> str:
        return self._node("Slice", [last, *(self._constant(list(each), np.int64) for each in (starts, ends, axes))])

    def _per_channel(self, values: list[float]) -> str:
        return self._constant(np.array(values, np.float32).reshape(1, -1, 1, 1), np.float32)

    def _constant(self, value: Any, dtype: type) -> str:  # noqa: ANN401 - anything that numpy takes
        from onnx.numpy_helper import from_array

        name = f"{_PREFIX}/{self.name}/constant{len(self.constants)}"
        self.constants.append(from_array(np.array(value, dtype), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:  # noqa: ANN401 - ONNX attributes
        from onnx.helper import make_node

        output = output or f"{_PREFIX}/{self.name}/{len(self.nodes)}"
        self.nodes.append(make_node(kind, inputs, [output], name=output, **attributes))
        return output
