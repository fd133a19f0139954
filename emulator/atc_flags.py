"""ATC's command line: which flags there are, what they may say, and the error texts for what they may not.

Decides only; the conversion is elsewhere. The texts of E10001, E10007 and E10054 are those of the real ATC; where no
sample of the real text is known (unknown flags, E10016), code and shape are the real ones and the sentence is ours.
Flags that change the model in a way which is not emulated are refused, never ignored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SOC_VERSIONS: Final = frozenset(
    {
        *("Ascend310", "Ascend310P1", "Ascend310P3", "Ascend310P5", "Ascend310P7", "Ascend310B1", "Ascend310B4"),
        *("Ascend910", "Ascend910A", "Ascend910B", "Ascend910ProA", "Ascend910ProB", "Ascend910PremiumA"),
        *("Ascend910B1", "Ascend910B2", "Ascend910B2C", "Ascend910B3", "Ascend910B4", "Ascend910B4-1"),
        *("Ascend910_9362", "Ascend910_9372", "Ascend910_9381", "Ascend910_9382", "Ascend910_9391", "Ascend910_9392"),
    }
)
#: Modes that round float32 weights through float16, and modes that keep them.
ROUNDING_MODES: Final = frozenset(
    {"force_fp16", "allow_mix_precision", "allow_mix_precision_fp16", "allow_fp32_to_fp16", "cube_fp16in_fp32out"}
)
KEEPING_MODES: Final = frozenset({"force_fp32", "must_keep_origin_dtype"})
ROUNDING_MODES_V2: Final = frozenset({"fp16", "mixed_float16", "cube_fp16in_fp32out"})
KEEPING_MODES_V2: Final = frozenset({"origin"})
MIXED_MODES: Final = frozenset({"allow_mix_precision", "allow_mix_precision_fp16", "mixed_float16"})

_ONNX_FRAMEWORK: Final = "5"
_CHOICES: Final[dict[str, frozenset[str]]] = {
    "mode": frozenset({"0"}),
    "input_format": frozenset({"NCHW", "ND", "NCDHW"}),
    "soc_version": SOC_VERSIONS,
    "precision_mode": ROUNDING_MODES | KEEPING_MODES,
    "precision_mode_v2": ROUNDING_MODES_V2 | KEEPING_MODES_V2,
    "log": frozenset({"debug", "info", "warning", "error", "null"}),
    "op_select_implmode": frozenset(
        {"high_performance", "high_precision", "high_performance_for_all", "high_precision_for_all"}
    ),
    "buffer_optimize": frozenset({"l1_optimize", "l2_optimize", "off_optimize", "l1_and_l2_optimize"}),
    "op_compiler_cache_mode": frozenset({"disable", "enable", "force"}),
    "enable_small_channel": frozenset({"0", "1"}),
    "disable_reuse_memory": frozenset({"0", "1"}),
    "op_debug_level": frozenset("01234"),
    "core_type": frozenset({"AiCore", "VectorCore"}),
}
_CODES: Final = {"log": "E10010", "enable_small_channel": "E10006", "disable_reuse_memory": "E10006"}
_FILES: Final = frozenset({"fusion_switch_file", "modify_mixlist"})
_FREE: Final = frozenset(
    {
        *("framework", "model", "output", "input_shape", "optypelist_for_implmode", "auto_tune_mode", "aicore_num"),
        *("debug_dir", "op_compiler_cache_dir", "op_bank_path", "mdl_bank_path"),
    }
)
_NOT_EMULATED: Final = frozenset(
    {
        *("weight", "om", "json", "singleop", "input_shape_range", "dynamic_batch_size", "dynamic_image_size"),
        *("dynamic_dims", "out_nodes", "output_type", "input_fp16_nodes", "is_input_adjust_hw_layout"),
        *("is_output_adjust_hw_layout", "insert_op_conf", "op_precision_mode", "keep_dtype", "customize_dtypes"),
        *("enable_compress_weight", "compress_weight_conf", "external_weight", "check_report", "op_name_map"),
        *("display_model_info", "deterministic", "is_weight_clip", "oo_level", "ac_parallel_enable"),
        "enable_graph_parallel",
    }
)
_ABBREVIATED: Final = 10
_SAMPLE_SHAPE: Final = '"input_name1:n1,c1,h1,w1;input_name2:n2,c2,h2,w2"'


class AtcError(Exception):
    """A failure that ATC reports: its code (`E10001`) and the text after it."""

    def __init__(self, code: str, text: str, solution: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.solution = solution


def invalid_value(flag: str, value: str, reason: str, code: str = "E10001") -> AtcError:
    """Return the error that most wrong values give."""
    return AtcError(code, f"Value [{value}] for parameter [{flag}] is invalid. Reason: {reason}")


@dataclass(frozen=True, kw_only=True)
class Mixlist:
    """Operator types that mixed precision is told to keep in float32, or to lower after all."""

    keep_float32: frozenset[str] = frozenset()
    lower: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class AtcOptions:
    """A checked command line.

    Attributes:
        model: the ONNX file.
        output: where the OM goes, without `.om`.
        input_shapes: input name -> fixed shape.
        input_format: `NCHW`, `ND` or `NCDHW`.
        soc_version: what to compile for.
        precision_mode: of either flag; `force_fp16` when none is given.
        rounds_weights: whether float32 weights go through float16.
        mixlist: exceptions for mixed precision.
    """

    model: Path
    output: Path
    input_shapes: dict[str, tuple[int, ...]]
    input_format: str
    soc_version: str
    precision_mode: str
    rounds_weights: bool
    mixlist: Mixlist


def parse(arguments: Sequence[str]) -> AtcOptions:
    """Check a command line; raises AtcError as ATC would refuse it."""
    flags = _split(arguments)
    _check_framework(flags)
    for required in ("model", "output", "soc_version"):
        if not flags.get(required):
            raise AtcError(
                "E10054",
                f"The requied parameter [--{required}] for ATC is empty. Another possible reason is that the value of "
                'some parameter is not enclosed by quotation marks ("").',
                f"Set parameter [--{required}].",
            )
    for flag, value in flags.items():
        _check_value(flag, value)
    precision_mode = _precision_mode(flags)
    return AtcOptions(
        model=Path(flags["model"]),
        output=Path(flags["output"]),
        input_shapes=parse_shapes(flags.get("input_shape", "")),
        input_format=flags.get("input_format", "NCHW"),
        soc_version=flags["soc_version"],
        precision_mode=precision_mode,
        rounds_weights=precision_mode in ROUNDING_MODES | ROUNDING_MODES_V2,
        mixlist=_mixlist(flags, precision_mode),
    )


def _split(arguments: Sequence[str]) -> dict[str, str]:
    """Return flag -> value from `--flag=value` and `--flag value`."""
    flags: dict[str, str] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise invalid_value("atc", word, "a parameter begins with --; quote values that hold blanks.")
        flag, equals, value = word[2:].partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else ""
        if flag in _NOT_EMULATED:
            raise invalid_value(f"--{flag}", value, "this parameter is not emulated.")
        if flag not in _FREE | _FILES and flag not in _CHOICES:
            raise invalid_value(f"--{flag}", value, "unknown parameter.")
        flags[flag] = value
    return flags


def _check_framework(flags: dict[str, str]) -> None:
    framework = flags.get("framework", "")
    if framework in {"0", "1", "3"}:
        raise invalid_value("--framework", framework, "the emulated ATC converts ONNX (5) only.")
    if framework != _ONNX_FRAMEWORK:
        raise AtcError(
            "E10007",
            "[--framework] is required. The value must be [0(Caffe) or 1(MindSpore) or 3(TensorFlow) or 5(Onnx)].",
            "Set parameter [--framework] to one of these values.",
        )


def _check_value(flag: str, value: str) -> None:
    if flag in _FILES and not Path(value).is_file():
        raise invalid_value(f"--{flag}", value, "the file does not exist or cannot be read.")
    choices = _CHOICES.get(flag)
    if choices is None or value in choices:
        return
    if flag == "input_format":
        reason = "only support NCHW, ND, NCDHW in ONNX model."
    elif len(choices) > _ABBREVIATED:
        reason = "it is not in the list of this toolkit."
    else:
        reason = f"The value must be one of [{', '.join(sorted(choices))}]."
    raise invalid_value(f"--{flag}", value, reason, _CODES.get(flag, "E10001"))


def _precision_mode(flags: dict[str, str]) -> str:
    if "precision_mode" in flags and "precision_mode_v2" in flags:
        raise AtcError("E10047", "[--precision_mode] and [--precision_mode_v2] are mutually exclusive.")
    return flags.get("precision_mode") or flags.get("precision_mode_v2") or "force_fp16"


def _mixlist(flags: dict[str, str], precision_mode: str) -> Mixlist:
    path = flags.get("modify_mixlist")
    if path is None:
        return Mixlist()
    if precision_mode not in MIXED_MODES:
        raise invalid_value("--modify_mixlist", path, "it can be used in mixed precision mode only.")
    try:
        document: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
        black = document.get("black-list", {})
        return Mixlist(
            keep_float32=frozenset(black.get("to-add", ())),
            lower=frozenset([*black.get("to-remove", ()), *document.get("white-list", {}).get("to-add", ())]),
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise invalid_value("--modify_mixlist", path, f"it is not a mix list: {error}.") from error


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Return input name -> shape from `"name:1,3,224,224;other:1,10"`; the name may hold colons.

    Raises:
        AtcError: E10002 for a malformed text, E10001 for a dimension that is not positive (dynamic ones are not
            emulated).
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for part in filter(None, text.strip().split(";")):
        name, colon, numbers = part.rpartition(":")
        try:
            shape = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            shape = ()
        if not (colon and name.strip() and shape):
            raise invalid_value("--input_shape", text, f"correct sample is {_SAMPLE_SHAPE}.", "E10002")
        if min(shape) < 1:
            raise invalid_value("--input_shape", text, "dynamic and empty dimensions are not emulated.")
        shapes[name.strip()] = shape
    return shapes
