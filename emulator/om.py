"""The `.om` file: the real 256-byte header, then what the emulated runtime needs.

The payload is 4 bytes with the length of a JSON description (little endian), the description, and the ONNX with its
shapes fixed. The header's checksum is the SHA-256 of the payload, so that a damaged file is refused at load. Standard
library only: timed mode loads an OM without ONNX. Equal input gives equal bytes.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

MAGIC: Final = b"IMOD"
HEADER_BYTES: Final = 256
#: The header of a real OM (GE's ModelFileHeader), little endian; `x` are bytes that stay zero.
_FIELDS: Final = {
    "magic": "4s",
    "headsize": "I",
    "version": "I",
    "checksum": "64s",
    "length": "I",
    "is_encrypt": "B",
    "is_checksum": "B",
    "modeltype": "B",
    "genmode": "B",
    "name": "32s",
    "ops": "I",
    "userdefineinfo": "32s",
    "om_ir_version": "I",
    "model_num": "I",
    "platform_version": "20s",
    "platform_type": "B3x",
    "model_length": "Q",
    "need_check_os_cpu_info": "B63x",
}
_HEADER: Final = struct.Struct("<" + "".join(_FIELDS.values()))
_LENGTH: Final = struct.Struct("<I")
_OM_VERSION: Final = 0x10000000
_U32_MASK: Final = 0xFFFFFFFF


class OmError(Exception):
    """The file is not an OM of the emulated ATC, or is damaged."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An input or output: numpy dtype name, fixed shape, ACL format (0 NCHW, 2 ND)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    format: int = 2


@dataclass(frozen=True, kw_only=True)
class OmDescription:
    """What the OM says of itself.

    Attributes:
        soc_version: the only chips it loads on.
        toolkit_version: of the ATC that wrote it.
        precision_mode: how float32 weights were treated.
        batch: first dimension of the first input.
        inputs: in the model's order.
        outputs: in the model's order.
    """

    soc_version: str
    toolkit_version: str
    precision_mode: str
    batch: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"emulated": True, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises KeyError or TypeError when it is not one."""
        known = {key: value for key, value in data.items() if key != "emulated"}
        return cls(**{**known, "inputs": _tensors(data["inputs"]), "outputs": _tensors(data["outputs"])})


def _tensors(items: list[dict[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(**{**item, "shape": tuple(item["shape"])}) for item in items)


@dataclass(frozen=True, kw_only=True)
class Om:
    """An OM: its name, its description, the fixed ONNX as bytes, and the file's SHA-256 and size."""

    name: str
    description: OmDescription
    onnx: bytes
    digest: str
    size_bytes: int


def encode(name: str, description: OmDescription, onnx: bytes) -> bytes:
    """Return the bytes of an OM file."""
    document = json.dumps(description.to_json(), sort_keys=True, separators=(",", ":")).encode()
    payload = _LENGTH.pack(len(document)) + document + onnx
    values: dict[str, int | bytes] = {
        **dict.fromkeys(_FIELDS, 0),
        "magic": MAGIC,
        "headsize": HEADER_BYTES,
        "version": _OM_VERSION,
        "checksum": hashlib.sha256(payload).hexdigest().encode(),
        "length": len(payload) & _U32_MASK,
        "is_checksum": 1,
        "name": name.encode()[:32],
        "userdefineinfo": b"emulated by npuq",
        "model_num": 1,
        "platform_version": description.toolkit_version.encode()[:20],
        "model_length": len(payload),
    }
    header = _HEADER.pack(*values.values())
    return header + payload


def decode(data: bytes, name: str) -> Om:
    """Read the bytes of an OM file; raises OmError."""
    if len(data) < HEADER_BYTES + _LENGTH.size or data[: len(MAGIC)] != MAGIC:
        raise OmError("it does not begin with an OM header")
    header = dict(zip(_FIELDS, _HEADER.unpack_from(data), strict=True))
    payload = data[HEADER_BYTES:]
    if len(payload) != header["model_length"] or hashlib.sha256(payload).hexdigest().encode() != header["checksum"]:
        raise OmError("it is damaged: length or checksum do not match its header")
    (length,) = _LENGTH.unpack_from(payload)
    document, onnx = payload[_LENGTH.size : _LENGTH.size + length], payload[_LENGTH.size + length :]
    try:
        description = OmDescription.from_json(json.loads(document))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OmError(f"it was not written by the emulated ATC: {error}") from error
    return Om(
        name=name,
        description=description,
        onnx=onnx,
        digest=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
    )


def write(path: Path, data: bytes) -> None:
    """Write an OM so that nobody sees half of it: to a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> Om:
    """Read an OM; raises OmError, also when the file cannot be read."""
    try:
        return decode(path.read_bytes(), path.stem)
    except OSError as error:
        raise OmError(f"it cannot be read: {error}") from error
