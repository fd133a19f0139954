"""The emulated `aclruntime`, under the names of the real module; `HOME/python/aclruntime.py` imports it from here.

The fleet file says which generation of the API a process gets when it imports the module: `"api": "2022"` or `"2023"`.
Other than the real one, `infer_options` is there in both.
"""

from typing import Any

from emulator.acl_device import current_home
from emulator.acl_pipeline import InferOptions as infer_options  # noqa: N813 - the name of the real one
from emulator.acl_pipeline import PipelinedSession
from emulator.acl_session import InferenceSession as SimpleSession
from emulator.acl_session import SessionOptions as session_options  # noqa: N813 - as above
from emulator.acl_session import Summary as sumary  # noqa: N813 - the name, and spelling, of the real one
from emulator.acl_shapes import TensorDescription as tensor_desc  # noqa: N813 - as above
from emulator.acl_tensors import BaseTensor, MemorySummary, Tensor, batch
from emulator.acl_tensors import DType as dtype  # noqa: N813 - as above
from emulator.acl_tensors import MemoryType as type  # noqa: A004, N813 - as above
from emulator.fleet import Api

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
bool = dtype.bool  # noqa: A001 - as above
memory_host = type.memory_host
memory_device = type.memory_device
memory_dvpp = type.memory_dvpp


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class, of either generation
    """Return `InferenceSession` of the generation that the fleet file asks for."""
    if name == "InferenceSession":
        return SimpleSession if current_home().fleet().api is Api.FLOATS else PipelinedSession
    raise AttributeError(f"module 'aclruntime' has no attribute {name!r}")


def model(modelPath: str, deviceId: int = 0, options: session_options | None = None) -> SimpleSession:  # noqa: N803 - as above
    """Return a new session; without options it crashes, as the real one does."""
    session: SimpleSession = __getattr__("InferenceSession")(modelPath, deviceId, options)
    return session


__all__ = [
    "BaseTensor",
    "InferenceSession",  # noqa: F822 - by `__getattr__`
    "MemorySummary",
    "Tensor",
    "batch",
    "bool",
    "double",
    "dtype",
    "float16",
    "float32",
    "infer_options",
    "int8",
    "int16",
    "int32",
    "int64",
    "memory_device",
    "memory_dvpp",
    "memory_host",
    "model",
    "session_options",
    "sumary",
    "tensor_desc",
    "type",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
