"""What shapes an emulated session is bound to: sizes, gears, and the sentences for those that do not fit.

The rules are those of the C++ of `aclruntime`, its oddities included: a wrong batch or image size is reported as
`[1]`, wrong dims and shapes as `[-1]`; dims are matched by position and only sized by name; `set_staticbatch` leaves
`realsize` alone. Nothing is executed here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from typing import Final, NoReturn

import numpy as np

from emulator.acl_device import FAILED, GENERAL_FAILURE, LogLevel, log, print_line
from emulator.acl_tensors import DType
from emulator.engines import Binding
from emulator.om import Gear, GearKind, OmDescription, TensorInfo

OUTPUT_SIZE_UNKNOWN: Final = "[3011][Infer: find outputsize is zero please check outputsize is set correct] "
_LEADING_INTEGER: Final = re.compile(r"\s*([+-]?\d+)")


class DynamicType(IntEnum):
    """How a session was told its shapes, numbered as the log lines show it."""

    STATIC = 0
    BATCH = 1
    IMAGE_SIZE = 2
    DIMS = 3
    SHAPE = 4


@dataclass(kw_only=True)
class TensorDescription:
    """`aclruntime.tensor_desc`: an input or output of a model.

    Attributes:
        name: of the tensor.
        datatype: element type.
        format: ACL format.
        shape: -1 where it is open.
        realsize: bytes of the shapes that are set; feeds must have exactly as many.
        size: bytes of the largest shapes; 0 where there is no largest.
    """

    name: str = ""
    datatype: DType = DType.uint8
    format: int = 0
    shape: list[int] = field(default_factory=list)
    realsize: int = 0
    size: int = 0


class BoundShapes:
    """The inputs and outputs of one session, and what is set for its next execution.

    Args:
        description: of the OM.
        log_level: lines below it are not printed.
    """

    def __init__(self, description: OmDescription, log_level: int) -> None:
        self._om = description
        self._log_level = log_level
        self._type = DynamicType.STATIC
        self._gear: Gear | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.custom_output_bytes: list[int] = []
        largest = max(description.gears, key=lambda gear: sum(prod(shape) for shape in gear.inputs), default=None)
        self.inputs = [
            _describe(info, info.shape, _input_elements(info) if largest is None else prod(largest.inputs[index]))
            for index, info in enumerate(description.inputs)
        ]
        self.outputs = [
            _describe(info, info.shape, _elements(info.shape))
            if largest is None
            else _describe(info, largest.outputs[index], prod(largest.outputs[index]))
            for index, info in enumerate(description.outputs)
        ]

    @property
    def largest_batch(self) -> int:
        """Return the largest batch of the gears, 0 when the OM has none of that kind."""
        return max((gear.values[0] for gear in self._gears(GearKind.BATCH)), default=0)

    def set_static(self) -> None:
        """Forget what was set."""
        self._type = DynamicType.STATIC

    def set_batch(self, batch_size: int) -> None:
        """Choose the gear of a batch size; raises RuntimeError."""
        check = "processModel->CheckDynamicBatchSize(batchsize, is_dymbatch)"
        gears = self._gears(GearKind.BATCH)
        if not gears:
            self._refuse_gear(check, "the dynamic_batch_size parameter is not specified for model conversion")
        gear = _gear_of(gears, (batch_size,))
        if gear is None:
            sizes = "".join(f"[{each.values[0]}]" for each in gears)
            self._refuse_gear(
                check,
                "the dymBatch parameter is not correct",
                f"model has dynamic batch size:{{{sizes}}}, please set correct dynamic batch size",
            )
        self._log(LogLevel.INFO, "check dynamic batch success")
        self._scale_inputs(batch_size, self.largest_batch)
        self._type, self._gear = DynamicType.BATCH, gear

    def set_image_size(self, height: int, width: int) -> None:
        """Choose the gear of an image size; raises RuntimeError."""
        check = "processModel->CheckDynamicHWSize(dynamicHW, is_dymHW)"
        gears = self._gears(GearKind.IMAGE_SIZE)
        if not gears:
            self._refuse_gear(check, "the dynamic_image_size parameter is not specified for model conversion")
        gear = _gear_of(gears, (height, width))
        if gear is None:
            self._refuse_gear(check, "the dymHW parameter is not correct")
        self._log(LogLevel.INFO, "check dynamic image size success.")
        self._scale_inputs(height * width, max(prod(each.values) for each in gears))
        self._type, self._gear = DynamicType.IMAGE_SIZE, gear

    def set_dims(self, text: str) -> None:
        """Choose the gear of `name:1,3,224,224;other:1,10`, all dimensions of all inputs; raises RuntimeError."""
        gears = self._gears(GearKind.DIMS)
        if not gears:
            print_line("the dynamic_dims parameter is not specified for model conversion")
            raise RuntimeError(GENERAL_FAILURE)
        parts = _parse(text)
        dims = [size for _, shape in parts for size in shape]
        gear = next((each for each in gears if _flat(each) == dims), None)
        if gear is None:
            counts = {len(_flat(each)) for each in gears}
            if len(dims) not in counts:
                sizes = f"dysize:{len(dims)} dimcount:{counts.pop()}"
                self._log(LogLevel.ERROR, f"the dymDims parameter is not correct i:0 {sizes}")
            else:
                self._log(LogLevel.ERROR, "the dynamic_dims parameter is not correct")
            self._list_dims(gears)
            self._refuse("check dynamic dims failed, please set correct dymDims paramenter")
        self._size_inputs(parts)
        self._type, self._gear = DynamicType.DIMS, gear

    def set_shape(self, text: str) -> None:
        """Give every input a shape, written as for `set_dims`; raises RuntimeError."""
        parts = _parse(text)
        if len(parts) != len(self.inputs):
            self._log(LogLevel.ERROR, f"om has {len(self.inputs)} input, but dymShape parametet give {len(parts)}")
            self._refuse("check dynamic shape failed")
        shapes = dict(parts)
        if shapes.keys() != {each.name for each in self.inputs}:
            self._log(LogLevel.ERROR, "the dymShape parameter set error, please check input name")
            self._refuse("check dynamic shape failed")
        self._size_inputs(parts)
        self._type, self._shapes = DynamicType.SHAPE, shapes

    def check_set(self) -> None:
        """Raise RuntimeError when the OM has dims in gears and none was chosen."""
        count = len(self._gears(GearKind.DIMS))
        if count and self._type is not DynamicType.DIMS:
            self._log(LogLevel.WARN, f"check failed dym gearcount:{count} but dymtype:{self._type.value} not set")
            self._refuse("Set InputsData failed ret:-1")

    def check_outputs_sized(self) -> None:
        """Raise RuntimeError when memory for an output cannot be had because nobody said how much it takes."""
        for index, size in enumerate(self.output_bytes):
            if size == 0:
                self._log(LogLevel.ERROR, f"out i:{index} size is zero")
                self._log(LogLevel.ERROR, "create outmemory data failed:3011")
                self._log(LogLevel.ERROR, "Set InputsData failed ret:3011")
                raise RuntimeError(OUTPUT_SIZE_UNKNOWN)

    @property
    def output_bytes(self) -> list[int]:
        """Return how much memory each output gets: its custom size, or that of its largest shape."""
        sizes = [each.size for each in self.outputs]
        custom = self.custom_output_bytes[: len(sizes)]
        return [*custom, *sizes[len(custom) :]]

    def binding(self) -> Binding | str:
        """Return the shapes of the next execution, or why the chip does not execute it."""
        if self._type is DynamicType.SHAPE:
            return self._shape_binding()
        if self._om.gears:
            if self._type is DynamicType.STATIC or self._gear is None:
                return "the model has gears, and none is set"
            return Binding(inputs=self._gear.inputs, outputs=self._gear.outputs)
        inputs = tuple(info.shape for info in self._om.inputs)
        if any(-1 in shape for shape in inputs):
            return "the model is of dynamic shape, and none is set"
        return Binding(inputs=inputs, outputs=tuple(info.shape for info in self._om.outputs))

    def _shape_binding(self) -> Binding | str:
        if self._om.gears:
            return "the model has gears and takes no other shapes"
        for info in self._om.inputs:
            shape = self._shapes[info.name]
            if len(shape) != len(info.shape) or not all(map(_fits, shape, info.shape, _limits(info))):
                return f"the shape {shape} of input {info.name} is none that the model was compiled for"
        return Binding(inputs=tuple(self._shapes[info.name] for info in self._om.inputs), outputs=None)

    def _gears(self, kind: GearKind) -> tuple[Gear, ...]:
        return self._om.gears if self._om.gear_kind is kind else ()

    def _scale_inputs(self, chosen: int, largest: int) -> None:
        for each in self.inputs:
            if -1 in each.shape:
                each.realsize = each.size * chosen // largest

    def _size_inputs(self, parts: Sequence[tuple[str, tuple[int, ...]]]) -> None:
        by_name = {each.name: each for each in self.inputs}
        for name, shape in parts:
            if name in by_name:
                by_name[name].realsize = prod(shape) * by_name[name].datatype.item_bytes
            else:
                self._log(LogLevel.WARN, f"find no in names:{name}")

    def _list_dims(self, gears: Sequence[Gear]) -> None:
        self._log(LogLevel.ERROR, f"model has {len(gears)} gear of dims")
        for index, gear in enumerate(gears):
            self._log(LogLevel.ERROR, f"dims[{index}]:{''.join(f'[{size}]' for size in _flat(gear))}")

    def _log(self, level: LogLevel, text: str) -> None:
        log(level, self._log_level, text)

    def _refuse_gear(self, check: str, *reasons: str) -> NoReturn:
        for reason in reasons:
            self._log(LogLevel.ERROR, reason)
        self._log(LogLevel.WARN, f"Check failed:{check}, ret:1\n")
        raise RuntimeError(FAILED)

    def _refuse(self, reason: str) -> NoReturn:
        self._log(LogLevel.ERROR, reason)
        raise RuntimeError(GENERAL_FAILURE)


def _describe(info: TensorInfo, shape: Sequence[int], elements: int) -> TensorDescription:
    size = elements * np.dtype(info.dtype).itemsize
    return TensorDescription(
        name=info.name,
        datatype=DType.of_numpy(info.dtype),
        format=info.format,
        shape=list(shape),
        realsize=size,
        size=size,
    )


def _input_elements(info: TensorInfo) -> int:
    """Return the elements of the largest shape, 0 when there is no largest."""
    return _elements([high for _, high in _limits(info)])


def _elements(shape: Sequence[int]) -> int:
    return 0 if -1 in shape else prod(shape)


def _limits(info: TensorInfo) -> tuple[tuple[int, int], ...]:
    return info.limits or tuple((1, -1) if size == -1 else (size, size) for size in info.shape)


def _fits(size: int, compiled: int, limits: tuple[int, int]) -> bool:
    low, high = limits
    return size == compiled if compiled != -1 else low <= size and (high == -1 or size <= high)


def _gear_of(gears: Sequence[Gear], values: tuple[int, ...]) -> Gear | None:
    return next((gear for gear in gears if gear.values == values), None)


def _flat(gear: Gear) -> list[int]:
    return [size for shape in gear.inputs for size in shape]


def _parse(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and shapes; numbers are read as C's `atoi` does, which knows no errors."""
    parts = [part.rpartition(":") for part in text.split(";") if part]
    return [(name, tuple(_leading_integer(number) for number in numbers.split(","))) for name, _, numbers in parts]


def _leading_integer(text: str) -> int:
    found = _LEADING_INTEGER.match(text)
    return 0 if found is None else int(found.group(1))
