"""The emulated `aclruntime`, under the names of the real module; `HOME/python/aclruntime.py` imports it from here.

Offers what npuq and `ais_bench`'s `InferSession` use with static shapes. Absent, as the real one has it: dynamic
shapes, AIPP setters, `run_pipeline`.
"""

from emulator.acl_session import InferenceSession
from emulator.acl_session import SessionOptions as session_options  # noqa: N813 - the name of the real one
from emulator.acl_session import Summary as sumary  # noqa: N813 - the name, and spelling, of the real one
from emulator.acl_session import TensorDescription as tensor_desc  # noqa: N813 - as above
from emulator.acl_tensors import BaseTensor, MemorySummary, Tensor
from emulator.acl_tensors import DType as dtype  # noqa: N813 - as above

float32 = dtype.float32
float16 = dtype.float16
int8 = dtype.int8
int32 = dtype.int32
uint8 = dtype.uint8
int16 = dtype.int16
uint16 = dtype.uint16
uint32 = dtype.uint32
int64 = dtype.int64
uint64 = dtype.uint64
double = dtype.double

__all__ = [
    "BaseTensor",
    "InferenceSession",
    "MemorySummary",
    "Tensor",
    "double",
    "dtype",
    "float16",
    "float32",
    "int8",
    "int16",
    "int32",
    "int64",
    "session_options",
    "sumary",
    "tensor_desc",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
