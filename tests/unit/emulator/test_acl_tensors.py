from typing import Any

import numpy as np
import pytest

from emulator import aclruntime
from emulator.home import Home


@pytest.mark.parametrize(
    "kind",
    ["float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"],
)
def test_mapped_types_keep_values_and_shape(kind: str) -> None:
    """Every element type of the real module comes back as it went in."""
    array = np.arange(6).reshape(2, 3).astype(kind)
    tensor = aclruntime.Tensor(array)
    assert tensor.shape == [2, 3]
    back = np.array(tensor)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_a_tensor_is_a_copy() -> None:
    """A later change of the array does not reach it."""
    array = np.zeros(3, np.float32)
    tensor = aclruntime.Tensor(array)
    array[:] = 1
    assert np.array(tensor).sum() == 0


def test_strides_are_ignored() -> None:
    """A transposed array is read in memory order: the trap that callers have to avoid."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(np.array(aclruntime.Tensor(array.T)).ravel(), array.ravel())
    assert aclruntime.Tensor(array.T).shape == [3, 2]


def test_missing_bytes_of_a_broadcast_array_are_zeros() -> None:
    """Nothing outside the array is read."""
    array = np.broadcast_to(np.float32(7), (4,))
    np.testing.assert_array_equal(np.array(aclruntime.Tensor(array)), [7, 0, 0, 0])


def test_an_unmapped_type_becomes_bytes() -> None:
    """Complex numbers silently turn into uint8, one byte per element."""
    tensor = aclruntime.Tensor(np.zeros(5, np.complex64))
    assert tensor.dtype is aclruntime.dtype.uint8
    assert np.array(tensor).nbytes == 5


def test_only_host_memory_becomes_an_array(home: Home) -> None:
    """The text is the real one; copies are timed."""
    del home
    summary = aclruntime.MemorySummary()
    summary.reset()
    tensor = aclruntime.Tensor(np.ones(2, np.float32))
    tensor.to_device(1)
    assert tensor.device == 1
    with pytest.raises(RuntimeError, match=r"^tensor is in npu\. can't convert to numpy array$"):
        np.array(tensor)
    tensor.to_host()
    assert np.array(tensor).tolist() == [1, 1]
    assert (len(summary.H2D_time_list), len(aclruntime.MemorySummary().D2H_time_list)) == (1, 1)


@pytest.mark.parametrize("device", [-1, 2])
def test_device_out_of_range(home: Home, device: int) -> None:
    """The trailing blank belongs to the text."""
    del home
    with pytest.raises(RuntimeError) as caught:
        aclruntime.Tensor(np.ones(2, np.float32)).to_device(device)
    assert str(caught.value) == "[1004][Invalid parameter] "


def test_text_of_a_tensor() -> None:
    """Shape, type and device, with the runtime's own word for float64."""
    assert str(aclruntime.Tensor(np.zeros((1, 4)))) == "<Tensor>\nshape:\t(1, 4)\ndtype:\tdouble64\ndevice:\t-1"


def test_types_have_acl_numbers() -> None:
    """As attributes of the module too."""
    expected: dict[str, Any] = {"float32": 0, "float16": 1, "int8": 2, "int32": 3, "uint8": 4, "int64": 9, "double": 11}
    assert {name: int(getattr(aclruntime, name)) for name in expected} == expected
    assert str(aclruntime.dtype.float32) == "dtype.float32"
