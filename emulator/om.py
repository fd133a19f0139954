"""The `.om` file: the real 256-byte header, then what the emulated runtime needs.

The payload is 4 bytes with the length of a JSON description (little endian), the description, and the ONNX as it is
executed: cut at `--out_nodes`, AIPP built into its graph, shapes fixed, or open where the OM is dynamic. The header's
checksum is the SHA-256 of the payload, so that a damaged file is refused at load. Standard library only: timed mode
loads an OM without ONNX. Equal input gives equal bytes.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
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


class GearKind(StrEnum):
    """Which of ATC's flags for several fixed shapes an OM was compiled with."""

    BATCH = "dynamic_batch_size"
    IMAGE_SIZE = "dynamic_image_size"
    DIMS = "dynamic_dims"


@dataclass(frozen=True, kw_only=True)
class Gear:
    """One set of shapes that a dynamic OM may be bound to.

    Attributes:
        values: as on ATC's command line: (batch,), (height, width), or one per -1 of the input shapes.
        inputs: shapes in the model's order, no dimension open.
        outputs: as `inputs`.
    """

    values: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class AippInfo:
    """What static AIPP makes of an input; the work itself is in the ONNX, whose input takes these bytes.

    Attributes:
        input_format: of the file, for example `RGB888_U8`.
        source_height: rows of the picture that is fed.
        source_width: columns of it.
    """

    input_format: str
    source_height: int
    source_width: int


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """An input or output.

    Attributes:
        name: of the tensor.
        dtype: numpy's name; uint8 for an input with AIPP.
        shape: as compiled; -1 where it depends on the gear or on what is fed.
        format: ACL format, 0 NCHW, 1 NHWC, 2 ND.
        limits: (smallest, largest) per axis of an input with a ranged shape; empty otherwise; largest -1: no limit.
        aipp: of an input; None without.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    format: int = 2
    limits: tuple[tuple[int, int], ...] = ()
    aipp: AippInfo | None = None


@dataclass(frozen=True, kw_only=True)
class OmDescription:
    """What the OM says of itself.

    Static: no `-1` in any shape. In gears: `gear_kind` and `gears`. Dynamic shape: `-1`, and neither of the two.

    Attributes:
        soc_version: the only chips it loads on.
        toolkit_version: of the ATC that wrote it.
        precision_mode: how float32 weights were treated.
        batch: first dimension of the first input; the largest over the gears; 1 where it is open.
        inputs: in the model's order.
        outputs: in the model's order, or in that of `--out_nodes`.
        gear_kind: which flag gave the gears; None without gears.
        gears: in the command line's order.
        out_nodes: `node:index` as given to `--out_nodes`; empty: the outputs of the ONNX.
    """

    soc_version: str
    toolkit_version: str
    precision_mode: str
    batch: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    gear_kind: GearKind | None = None
    gears: tuple[Gear, ...] = ()
    out_nodes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"emulated": True, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON form; raises KeyError, ValueError or TypeError when it is not one."""
        known = {key: value for key, value in data.items() if key != "emulated"}
        kind = data.get("gear_kind")
        return cls(
            **{
                **known,
                "inputs": tuple(_tensor(each) for each in data["inputs"]),
                "outputs": tuple(_tensor(each) for each in data["outputs"]),
                "gear_kind": None if kind is None else GearKind(kind),
                "gears": tuple(_gear(each) for each in data.get("gears", ())),
                "out_nodes": tuple(data.get("out_nodes", ())),
            }
        )


def _tensor(item: Mapping[str, Any]) -> TensorInfo:
    aipp = item.get("aipp")
    return TensorInfo(
        **{
            **item,
            "shape": tuple(item["shape"]),
            "limits": tuple((low, high) for low, high in item.get("limits", ())),
            "aipp": None if aipp is None else AippInfo(**aipp),
        }
    )


def _gear(item: Mapping[str, Any]) -> Gear:
    return Gear(
        values=tuple(item["values"]),
        inputs=tuple(tuple(shape) for shape in item["inputs"]),
        outputs=tuple(tuple(shape) for shape in item["outputs"]),
    )


@dataclass(frozen=True, kw_only=True)
class Om:
    """An OM: its name, its description, the ONNX as bytes, and the file's SHA-256 and size."""

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
