"""ATC's command line: which flags there are, what they may say, and the error texts for what they may not.

Decides only; the conversion is elsewhere. Flags that change the model in a way which is not emulated are refused, never
ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emulator import aipp, atc_lists
from emulator.atc_errors import AtcError, invalid_value
from emulator.atc_shapes import Gears, InputShape, parse_gears, parse_shapes
from emulator.precision import Lowering, Scope

SOC_VERSIONS: Final = frozenset(
    {
        *("Ascend310", "Ascend310P1", "Ascend310P3", "Ascend310P5", "Ascend310P7", "Ascend310B1", "Ascend310B4"),
        *("Ascend910", "Ascend910A", "Ascend910B", "Ascend910ProA", "Ascend910ProB", "Ascend910PremiumA"),
        *("Ascend910B1", "Ascend910B2", "Ascend910B2C", "Ascend910B3", "Ascend910B4", "Ascend910B4-1"),
        *("Ascend910_9362", "Ascend910_9372", "Ascend910_9381", "Ascend910_9382", "Ascend910_9391", "Ascend910_9392"),
    }
)
#: `--precision_mode` -> what it lowers, and whether results are rounded too.
PRECISION_MODES: Final = {
    "force_fp16": (Scope.EVERYTHING, True),
    "allow_fp32_to_fp16": (Scope.MATRIX, True),
    "allow_mix_precision": (Scope.MATRIX, True),
    "allow_mix_precision_fp16": (Scope.MATRIX, True),
    "cube_fp16in_fp32out": (Scope.MATRIX, False),
    "force_fp32": (Scope.NOTHING, False),
    "must_keep_origin_dtype": (Scope.NOTHING, False),
}
#: The same for `--precision_mode_v2`.
PRECISION_MODES_V2: Final = {
    "fp16": (Scope.EVERYTHING, True),
    "mixed_float16": (Scope.MATRIX, True),
    "cube_fp16in_fp32out": (Scope.MATRIX, False),
    "origin": (Scope.NOTHING, False),
}
MIXED_MODES: Final = frozenset({"allow_mix_precision", "allow_mix_precision_fp16", "mixed_float16"})
_UNEMULATED_MODES: Final = frozenset(
    {"allow_mix_precision_bf16", "allow_fp32_to_bf16", "mixed_bfloat16", "cube_hif8", "mixed_hif8"}
)
_FOR_ALL: Final = "_for_all"
_ONNX_FRAMEWORK: Final = "5"
_SWITCH: Final = frozenset({"0", "1"})
_CHOICES: Final[dict[str, frozenset[str]]] = {
    "mode": frozenset({"0"}),
    "input_format": frozenset({"NCHW", "ND", "NCDHW"}),
    "soc_version": SOC_VERSIONS,
    "precision_mode": frozenset(PRECISION_MODES),
    "precision_mode_v2": frozenset(PRECISION_MODES_V2),
    "log": frozenset({"debug", "info", "warning", "error", "null"}),
    "op_select_implmode": frozenset(
        {"high_performance", "high_precision", "high_performance_for_all", "high_precision_for_all"}
    ),
    "buffer_optimize": frozenset({"l1_optimize", "l2_optimize", "off_optimize", "l1_and_l2_optimize"}),
    "op_compiler_cache_mode": frozenset({"disable", "enable", "force"}),
    "enable_small_channel": _SWITCH,
    "disable_reuse_memory": _SWITCH,
    "deterministic": _SWITCH,
    "op_debug_level": frozenset("01234"),
    "core_type": frozenset({"AiCore", "VectorCore"}),
}
_CODES: Final = {"log": "E10010", **dict.fromkeys(("enable_small_channel", "disable_reuse_memory"), "E10006")}
_FILES: Final = frozenset({"fusion_switch_file", "modify_mixlist", "insert_op_conf", "op_precision_mode", "keep_dtype"})
_FREE: Final = frozenset(
    {
        *("framework", "model", "output", "input_shape", "input_shape_range", "optypelist_for_implmode", "aicore_num"),
        *("dynamic_batch_size", "dynamic_image_size", "dynamic_dims", "out_nodes", "output_type", "input_fp16_nodes"),
        *("auto_tune_mode", "debug_dir", "op_compiler_cache_dir", "op_bank_path", "mdl_bank_path"),
    }
)
_NOT_EMULATED: Final = frozenset(
    {
        *("weight", "om", "json", "singleop", "is_input_adjust_hw_layout", "is_output_adjust_hw_layout"),
        *("customize_dtypes", "enable_compress_weight", "compress_weight_conf", "external_weight", "check_report"),
        *("op_name_map", "display_model_info", "is_weight_clip", "oo_level", "ac_parallel_enable"),
        "enable_graph_parallel",
    }
)
_TUNERS: Final = frozenset({"RL", "GA"})
_ABBREVIATED: Final = 10
_OUTPUT_TYPES: Final = {"FP32": "float32", "FP16": "float16", "UINT8": "uint8"}


@dataclass(frozen=True, kw_only=True)
class OutputTypes:
    """What `--output_type` says: numpy's name for all outputs (or None), and for single ones by `node:index`."""

    everywhere: str | None = None
    single: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class AtcOptions:
    """A checked command line.

    Attributes:
        model: the ONNX file.
        output: where the OM goes, without `.om`.
        input_shapes: input name -> shape; open where gears decide, or what is fed.
        gears: the shapes to compile for, None without.
        input_format: `NCHW`, `ND` or `NCDHW`.
        soc_version: what to compile for.
        precision_mode: of either flag; `force_fp16` when none is given.
        lowering: what that and the lists of operators make of it.
        kept: what keeps its data type, for the check against the model; `lowering` has it too.
        out_nodes: `node:index` where the model is cut; empty: nowhere.
        output_types: of the outputs.
        fp16_inputs: names of the inputs that take float16.
        aipp: preprocessing on the chip, by input.
        tunes: whether tuning was asked for, which has an effect on the host only.
        log: level.
        debug_dir: where `kernel_meta` is left.
    """

    model: Path
    output: Path
    input_shapes: dict[str, InputShape]
    gears: Gears | None
    input_format: str
    soc_version: str
    precision_mode: str
    lowering: Lowering
    kept: atc_lists.Kept
    out_nodes: tuple[str, ...]
    output_types: OutputTypes
    fp16_inputs: tuple[str, ...]
    aipp: tuple[aipp.AippOp, ...]
    tunes: bool
    log: str
    debug_dir: Path


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
    shapes = _shapes(flags)
    gears = parse_gears(flags, shapes)
    if "dynamic_dims" in flags and flags.get("input_format") != "ND":
        raise invalid_value("--input_format", flags.get("input_format", "NCHW"), "dynamic_dims needs ND.")
    precision_mode = _precision_mode(flags)
    kept = atc_lists.read_kept(flags["keep_dtype"]) if "keep_dtype" in flags else atc_lists.Kept()
    return AtcOptions(
        model=Path(flags["model"]),
        output=Path(flags["output"]),
        input_shapes=shapes,
        gears=gears,
        input_format=flags.get("input_format", "NCHW"),
        soc_version=flags["soc_version"],
        precision_mode=precision_mode,
        lowering=_lowering(flags, precision_mode, kept),
        kept=kept,
        out_nodes=_out_nodes(flags.get("out_nodes", "")),
        output_types=_output_types(flags.get("output_type", "")),
        fp16_inputs=tuple(name.strip() for name in flags.get("input_fp16_nodes", "").split(";") if name.strip()),
        aipp=aipp.read(Path(flags["insert_op_conf"])) if "insert_op_conf" in flags else (),
        tunes="auto_tune_mode" in flags,
        log=flags.get("log", "null"),
        debug_dir=Path(flags.get("debug_dir", ".")),
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
    if flag == "auto_tune_mode" and not _TUNERS.issuperset(value.split(",")):
        raise invalid_value("--auto_tune_mode", value, 'it is "RL", "GA" or "RL,GA".')
    if flag == "aicore_num" and not (value.isdecimal() and int(value) > 0):
        raise invalid_value("--aicore_num", value, "The value must be a positive integer.")
    choices = _CHOICES.get(flag)
    if choices is None or value in choices:
        return
    if flag == "input_format":
        reason = "only support NCHW, ND, NCDHW in ONNX model."
    elif value in _UNEMULATED_MODES:
        reason = "the emulated chips compute neither in bfloat16 nor in 8 bits."
    elif len(choices) > _ABBREVIATED:
        reason = "it is not in the list of this toolkit."
    else:
        reason = f"The value must be one of [{', '.join(sorted(choices))}]."
    raise invalid_value(f"--{flag}", value, reason, _CODES.get(flag, "E10001"))


def _shapes(flags: dict[str, str]) -> dict[str, InputShape]:
    if "input_shape" in flags and "input_shape_range" in flags:
        raise AtcError("E10047", "[--input_shape] and [--input_shape_range] are mutually exclusive.")
    if "input_shape_range" in flags:
        return parse_shapes(flags["input_shape_range"], "input_shape_range")
    return parse_shapes(flags.get("input_shape", ""))


def _precision_mode(flags: dict[str, str]) -> str:
    if "precision_mode" in flags and "precision_mode_v2" in flags:
        raise AtcError("E10047", "[--precision_mode] and [--precision_mode_v2] are mutually exclusive.")
    return flags.get("precision_mode") or flags.get("precision_mode_v2") or "force_fp16"


def _lowering(flags: dict[str, str], precision_mode: str, kept: atc_lists.Kept) -> Lowering:
    scope, rounds_results = (PRECISION_MODES | PRECISION_MODES_V2)[precision_mode]
    mixlist = atc_lists.Mixlist()
    if "modify_mixlist" in flags:
        if precision_mode not in MIXED_MODES:
            raise invalid_value(
                "--modify_mixlist", flags["modify_mixlist"], "it can be used in mixed precision mode only."
            )
        mixlist = atc_lists.read_mixlist(flags["modify_mixlist"])
    precise = atc_lists.read_precise_types(flags["op_precision_mode"]) if "op_precision_mode" in flags else frozenset()
    types = atc_lists.onnx_types(filter(None, flags.get("optypelist_for_implmode", "").split(",")))
    mode = flags.get("op_select_implmode", "")
    if types and (not mode or mode.endswith(_FOR_ALL)):
        raise invalid_value(
            "--optypelist_for_implmode", flags["optypelist_for_implmode"], "it needs --op_select_implmode."
        )
    wants_precise = mode.removesuffix(_FOR_ALL) == "high_precision"
    return Lowering(
        scope=scope,
        rounds_results=rounds_results,
        keep_types=mixlist.keep_float32 | atc_lists.onnx_types(kept.types),
        lower_types=mixlist.lower,
        keep_nodes=kept.nodes,
        precise_types=precise | (types if wants_precise else frozenset()),
        precise_vectors=wants_precise and not types,
        folds_batchnorm="fusion_switch_file" not in flags
        or atc_lists.read_fuses_batchnorm(flags["fusion_switch_file"]),
    )


def _out_nodes(text: str) -> tuple[str, ...]:
    nodes = tuple(part.strip() for part in text.split(";") if part.strip())
    for node in nodes:
        name, colon, index = node.rpartition(":")
        if not (colon and name and index.isdecimal()):
            raise invalid_value("--out_nodes", text, 'correct sample is "node_name1:0;node_name2:1".')
    return nodes


def _output_types(text: str) -> OutputTypes:
    if not text:
        return OutputTypes()
    if text in _OUTPUT_TYPES:
        return OutputTypes(everywhere=_OUTPUT_TYPES[text])
    single = []
    for part in filter(None, text.split(";")):
        node, colon, kind = part.strip().rpartition(":")
        if not (colon and node.rpartition(":")[2].isdecimal() and kind in _OUTPUT_TYPES):
            raise invalid_value("--output_type", text, 'FP32, FP16, UINT8, or "node_name:0:FP16".')
        single.append((node, _OUTPUT_TYPES[kind]))
    return OutputTypes(single=tuple(single))
