import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.om import (
    AippInfo,
    Gear,
    GearKind,
    OmDescription,
    OmError,
    TensorInfo,
    decode,
    encode,
    read,
    write,
)

DESCRIPTION = OmDescription(
    soc_version="Ascend310P3",
    toolkit_version="8.0.0-emulated",
    precision_mode="force_fp16",
    batch=2,
    inputs=(TensorInfo(name="image", dtype="float32", shape=(2, 3), format=0),),
    outputs=(TensorInfo(name="class", dtype="int64", shape=(2,)),),
)


def test_header_is_that_of_a_real_om() -> None:
    """Magic, header size, name and payload length lie where GE's header has them."""
    data = encode("resnet", DESCRIPTION, b"onnx")
    assert data[:4] == b"IMOD"
    assert int.from_bytes(data[4:8], "little") == 256
    assert data[84:116].rstrip(b"\0") == b"resnet"
    assert int.from_bytes(data[184:192], "little") == len(data) - 256


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Description and model come back, with the digest of the whole file; nothing else is left in the folder."""
    data = encode("m", DESCRIPTION, b"onnx")
    path = tmp_path / "model.om"
    write(path, data)
    om = read(path)
    assert (om.name, om.description, om.onnx, om.size_bytes) == ("model", DESCRIPTION, b"onnx", len(data))
    assert om.digest == hashlib.sha256(data).hexdigest()
    assert list(tmp_path.iterdir()) == [path]


def test_gears_limits_aipp_and_cuts_are_read_as_written() -> None:
    """All that `atc` decides and the runtime acts on."""
    aipp = AippInfo(input_format="RGB888_U8", source_height=8, source_width=6)
    image = TensorInfo(
        name="image", dtype="uint8", shape=(-1, 8, 6, 3), limits=((1, 4), (8, 8), (6, 6), (3, 3)), aipp=aipp
    )
    gears = tuple(Gear(values=(n,), inputs=((n, 8, 6, 3),), outputs=((n,),)) for n in (1, 4))
    dynamic = replace(DESCRIPTION, inputs=(image,), gear_kind=GearKind.BATCH, gears=gears, out_nodes=("Conv_3:0",))
    assert decode(encode("m", dynamic, b"onnx"), "m").description == dynamic


def test_equal_input_gives_equal_bytes() -> None:
    """Content keys rest on it."""
    assert encode("m", DESCRIPTION, b"onnx") == encode("m", DESCRIPTION, b"onnx")


@pytest.mark.parametrize("position", [0, 20, 190, 256, 260, 300, -1])
def test_a_changed_byte_is_noticed(position: int) -> None:
    """Damage anywhere that matters is refused at load."""
    data = bytearray(encode("m", DESCRIPTION, b"onnx"))
    data[position] ^= 0xFF
    with pytest.raises(OmError):
        decode(bytes(data), "m")


@pytest.mark.parametrize("length", [0, 3, 255, 259, 400])
def test_a_cut_file_is_noticed(length: int) -> None:
    """A copy that broke off is no model."""
    with pytest.raises(OmError):
        decode(encode("m", DESCRIPTION, b"onnx")[:length], "m")


def test_a_missing_file_is_an_om_error(tmp_path: Path) -> None:
    """The runtime has one way to say that it cannot load."""
    with pytest.raises(OmError, match="cannot be read"):
        read(tmp_path / "none.om")
