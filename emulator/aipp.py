"""The file of `--insert_op_conf`: preprocessing that the chip does before the model (AIPP), as values. Pure.

Static AIPP is emulated: crop, swaps of channels, colour conversion, mean, minimum, factor and padding. Dynamic AIPP,
resizing and the formats of video and 16 bits are refused, with the code that the real ATC has for AIPP.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from emulator.atc_errors import AtcError, invalid_value

#: Format -> channels that AIPP reads from it.
FORMATS: Final = {"YUV420SP_U8": 3, "XRGB8888_U8": 4, "RGB888_U8": 3, "YUV400_U8": 1}
_BLOCK: Final = re.compile(r"\baipp_op\s*:?\s*\{([^{}]*)\}")
_FIELD: Final = re.compile(r"([a-z_0-9A-Z]+)\s*:\s*([^\s,;]+)[\s,;]*")
_SWITCHES: Final = ("csc_switch", "rbuv_swap_switch", "ax_swap_switch", "crop", "padding")
_SIZES: Final = (
    *("src_image_size_w", "src_image_size_h", "load_start_pos_w", "load_start_pos_h", "crop_size_w", "crop_size_h"),
    *("left_padding_size", "right_padding_size", "top_padding_size", "bottom_padding_size"),
)
_CHANNELS: Final = range(4)
_MATRIX: Final = tuple(f"matrix_r{row}c{column}" for row in range(3) for column in range(3))
_NUMBERS: Final = (
    *(f"{kind}_chn_{channel}" for kind in ("mean", "min", "var_reci") for channel in _CHANNELS),
    *(f"{side}_bias_{channel}" for side in ("input", "output") for channel in range(3)),
    *_MATRIX,
    "cpadding_value",
)
_KNOWN: Final = frozenset(
    {"aipp_mode", "related_input_rank", "related_input_name", "input_format", "single_line_mode", "resize"}
    | {*_SWITCHES, *_SIZES, *_NUMBERS}
)
_REFUSED: Final = frozenset(
    {"max_src_image_size", "input_edge_idx", "raw_rgbir_to_f16_n", "mean_chn", "resize_output_w"}
)


@dataclass(frozen=True, kw_only=True)
class AippOp:
    """One `aipp_op`.

    Attributes:
        input_format: a key of `FORMATS`.
        related_input_rank: which input of the model, from 0.
        related_input_name: the same by name; "" when the rank counts.
        switches: those that are on.
        sizes: in pixels, by field; missing ones are 0: as the model's input is.
        numbers: of the colour conversion and the channels, by field; missing ones have the chip's defaults.
    """

    input_format: str
    related_input_rank: int = 0
    related_input_name: str = ""
    switches: frozenset[str] = frozenset()
    sizes: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)


def read(path: Path) -> tuple[AippOp, ...]:
    """Read a file; raises AtcError: E10052 for a configuration that is wrong or not emulated."""
    try:
        text = re.sub(r"#[^\n]*", "", path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        raise invalid_value("--insert_op_conf", str(path), "the file does not exist or cannot be read.") from None
    blocks = _BLOCK.findall(text)
    if not blocks or _BLOCK.sub("", text).strip():
        _refuse("the file holds aipp_op { ... } and nothing else")
    return tuple(_op(block) for block in blocks)


def _refuse(reason: str) -> NoReturn:
    raise AtcError("E10052", f"AIPP configuration is invalid. Reason: [{reason}].")


def _op(block: str) -> AippOp:
    if _FIELD.sub("", block).strip():
        _refuse(f"cannot read {_FIELD.sub('', block).strip()!r}")
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(block):
        if name in fields:
            _refuse(f"The parameter {name} can not be configed repeatedly")
        fields[name] = value.strip("\"'")
    _check_fields(fields)
    try:
        op = AippOp(
            input_format=fields["input_format"],
            related_input_rank=int(fields.get("related_input_rank", "0")),
            related_input_name=fields.get("related_input_name", ""),
            switches=frozenset(name for name in _SWITCHES if fields.get(name, "false") in {"true", "1"}),
            sizes={name: int(fields[name]) for name in _SIZES if name in fields},
            numbers={name: float(fields[name]) for name in _NUMBERS if name in fields},
        )
    except ValueError as error:
        _refuse(str(error))
    if min(op.sizes.values(), default=0) < 0:
        _refuse("sizes and positions must not be negative")
    return op


def _check_fields(fields: dict[str, str]) -> None:
    unknown = sorted(fields.keys() - _KNOWN)
    if unknown:
        known = "is not emulated" if unknown[0] in _REFUSED else "is not a parameter of aipp_op"
        _refuse(f"{unknown[0]} {known}")
    mode = fields.get("aipp_mode")
    if mode not in {"static", "dynamic"}:
        _refuse("When insert AIPP op, aipp_mode must be configured as static or dynamic")
    if mode == "dynamic":
        _refuse("dynamic AIPP is not emulated: write aipp_mode: static, or convert with a real CANN")
    if fields.get("resize", "false") in {"true", "1"}:
        _refuse("resize is not emulated")
    if fields.get("input_format") not in FORMATS:
        _refuse(f"input_format is one of {', '.join(FORMATS)}")
