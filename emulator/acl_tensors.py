"""Tensors of the emulated `aclruntime`: host and device memory, and the traps of the real ones.

Attribute names are those of the pybind module and break the house's naming on purpose.
"""

import ctypes
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, ClassVar, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from emulator.acl_device import INVALID_PARAMETER, device_count, print_line

Array = NDArray[Any]

HOST: Final = -1


class DType(IntEnum):
    """ACL data types."""

    float32 = 0
    float16 = 1
    int8 = 2
    int32 = 3
    uint8 = 4
    int16 = 6
    uint16 = 7
    uint32 = 8
    int64 = 9
    uint64 = 10
    double = 11
    bool = 12

    def __str__(self) -> str:
        return f"dtype.{self.name}"

    @property
    def text(self) -> str:
        """Return the name that `str` of tensors and sessions shows."""
        return "double64" if self is DType.double else self.name

    @property
    def numpy_name(self) -> str:
        """Return numpy's name of it."""
        return {"double": "float64"}.get(self.name, self.name)

    @property
    def item_bytes(self) -> int:
        """Return the bytes of one element."""
        return np.dtype(self.numpy_name).itemsize

    @classmethod
    def of_numpy(cls, name: str) -> "DType":
        """Return the member for numpy's name; raises KeyError."""
        return cls[{"float64": "double"}.get(name, name)]


class MemoryType(IntEnum):
    """`aclruntime.type`: where a tensor lies."""

    memory_host = 0
    memory_device = 1
    memory_dvpp = 2

    def __str__(self) -> str:
        return f"type.{self.name}"


#: Codes of the buffer protocol that the real module maps; any other silently becomes uint8.
_BUFFER_CODES: Final = {
    "b": DType.int8,
    "B": DType.uint8,
    "h": DType.int16,
    "H": DType.uint16,
    "i": DType.int32,
    "I": DType.uint32,
    "l": DType.int64,
    "L": DType.uint64,
    "e": DType.float16,
    "f": DType.float32,
    "d": DType.double,
    "?": DType.bool,
}


class MemorySummary:
    """Times of copies between host and device, ms, for the whole process; every instance shows the same lists."""

    H2D_time_list: ClassVar[list[float]] = []
    D2H_time_list: ClassVar[list[float]] = []

    def reset(self) -> None:
        """Forget the times."""
        MemorySummary.H2D_time_list.clear()
        MemorySummary.D2H_time_list.clear()


class BaseTensor:
    """A pointer and a number of bytes. It does not keep the memory alive: hold the array until `run` is over."""

    def __init__(self, ptr: int, nbytes: int) -> None:
        self.buf = ptr
        self.size = nbytes

    def copy_bytes(self) -> bytes:
        """Copy what it points at, as `run` does."""
        with timed(MemorySummary.H2D_time_list):
            return ctypes.string_at(self.buf, self.size)


@contextmanager
def timed(times: list[float]) -> Iterator[None]:
    """Note how long a copy takes, in ms."""
    begun = time.perf_counter()
    yield
    times.append((time.perf_counter() - begun) * 1000)


class Tensor:
    """An array in host or device memory, built by copying any object with the buffer protocol.

    As with the real one, strides are ignored (pass contiguous arrays), and an element type that is not mapped becomes
    uint8 with as many *bytes* as there were elements.
    """

    def __init__(self, buffer: Any) -> None:  # noqa: ANN401 - the buffer protocol has no type before Python 3.12
        view = memoryview(buffer)
        kind = _BUFFER_CODES.get(view.format.lstrip("@=<"))
        elements = view.nbytes // view.itemsize
        data = _leading_bytes(buffer, view, elements * (view.itemsize if kind is not None else 1))
        self._kind = DType.uint8 if kind is None else kind
        self._array = np.frombuffer(data, self._kind.numpy_name).reshape(view.shape)
        self._place = MemoryType.memory_host
        self._device = HOST
        self._taken = False

    @classmethod
    def output(cls, array: Array, device: int) -> "Tensor":
        """Return a tensor on a device with an array of any type there is; KeyError for another.

        The constructor would take int64 for uint8 where numpy spells it `q`.
        """
        kind = DType.of_numpy(array.dtype.name)
        tensor = cls(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        tensor._array = tensor._array.view(kind.numpy_name).reshape(array.shape)
        tensor._kind, tensor._place, tensor._device = kind, MemoryType.memory_device, device
        return tensor

    def placed(self, device: int) -> "Tensor":
        """Say that it lies on a device; returns itself, nothing is copied."""
        self._place, self._device = MemoryType.memory_device, device
        return self

    def taken(self) -> "Tensor":
        """Say that another tensor has its memory, as of an output that was asked for twice; returns itself."""
        self._taken = True
        return self

    @property
    def type(self) -> MemoryType:
        """Return where it lies."""
        return self._place

    @property
    def device(self) -> int:
        """Return the device, -1 for host memory."""
        return self._device

    @property
    def dtype(self) -> DType:
        """Return the element type."""
        return self._kind

    @property
    def shape(self) -> list[int]:
        """Return the dimensions."""
        return list(self._array.shape)

    def to_device(self, device: int) -> None:
        """Move it to a device; raises RuntimeError when there is none of that number."""
        self._move(device, MemoryType.memory_device)

    def to_dvpp(self, device: int) -> None:
        """Move it to the picture memory of a device; raises RuntimeError when there is none of that number."""
        self._move(device, MemoryType.memory_dvpp)

    def to_host(self) -> None:
        """Move it to host memory; raises RuntimeError when its memory was taken."""
        if self._place is MemoryType.memory_host:
            return
        if self._taken:
            print_line("param2 pointer is nullptr")
            _refuse("CheckCopyValid failed. ret=1004")
        with timed(MemorySummary.D2H_time_list):
            self._array = self._array.copy()
        self._place, self._device = MemoryType.memory_host, HOST

    def device_bytes(self) -> bytes | None:
        """Return what an execution reads, or None when it lies in host memory."""
        return None if self._place is MemoryType.memory_host else self._array.tobytes()

    def array(self) -> Array:
        """Return its elements wherever it lies, read-only; for the emulator, not for its callers."""
        return self._array

    def _move(self, device: int, place: MemoryType) -> None:
        if (self._device, self._place) == (device, place):
            return
        count = device_count()
        if device < 0:
            _refuse(f"deviceId({device}) is less than 0")
        if device >= count:
            _refuse(f"deviceId({device}) is bigger than deviceCount({count})")
        with timed(MemorySummary.H2D_time_list):
            self._array = self._array.copy()
        self._place, self._device = place, device

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:  # noqa: ANN401, FBT001 - numpy's protocol
        if self._place is not MemoryType.memory_host:
            raise RuntimeError("tensor is in npu. can't convert to numpy array")
        return np.array(self._array, dtype=dtype, copy=copy)

    def __del__(self) -> None:
        if getattr(self, "_taken", False):
            print_line("[1003][Invalid Pointer] Free failed, ptrData is nullptr.")

    def __str__(self) -> str:
        shape = ", ".join(str(size) for size in self.shape)
        return f"<Tensor>\nshape:\t({shape})\ndtype:\t{self._kind.text}\ndevice:\t{self._device}"

    __repr__ = __str__


def batch(inputs: Sequence[Tensor], keep_dims: bool = False) -> Tensor:  # noqa: FBT001, FBT002 - the signature of the real one
    """Return one tensor of many, where the first lies: stacked on a new axis; with `keep_dims`, joined along the first.

    Raises:
        RuntimeError: there is none, or they differ in place, element type or shape; stdout says which.
    """
    if not inputs:
        _refuse("input size(0)")
    first = inputs[0]
    for each in inputs[1:]:
        if len(each.shape) != len(first.shape):
            _refuse(f"dimension is not match ({len(first.shape)}) vs ({len(each.shape)})")
        if each.device != first.device:
            _refuse(f"deviceId is not match ({first.device}) vs ({each.device})")
        if each.dtype is not first.dtype:
            _refuse(f"data type is not match ({first.dtype.value}) vs ({each.dtype.value})")
        if each.type is not first.type:
            _refuse(f"memory type is not match ({first.type.value}) vs ({each.type.value})")
        if (each.shape[1:], keep_dims or each.shape) != (first.shape[1:], keep_dims or first.shape):
            _refuse(f"tensor shape is not match ({_listed(first.shape)}) vs ({_listed(each.shape)})")
    arrays = [each.array() for each in inputs]
    joined = Tensor(np.concatenate(arrays) if keep_dims else np.stack(arrays))
    return joined if first.type is MemoryType.memory_host else joined.placed(first.device)


def _listed(shape: Sequence[int]) -> str:
    return ",".join(str(size) for size in shape)


def _refuse(reason: str) -> NoReturn:
    print_line(reason)
    raise RuntimeError(INVALID_PARAMETER)


def _leading_bytes(buffer: Any, view: memoryview, count: int) -> bytes:  # noqa: ANN401 - see Tensor
    """Return the first bytes from the object's start in memory, whatever its strides.

    The real module reads on past the end of a broadcast array; here the missing bytes are zeros.
    """
    if view.c_contiguous:
        return view.tobytes()[:count]
    array = np.asarray(buffer)
    start = array.__array_interface__["data"][0]
    _, end = np.lib.array_utils.byte_bounds(array)
    return ctypes.string_at(start, min(count, end - start)).ljust(count, b"\0")
