"""Four words for how ATC may lower the precision of a model, and ATC's many modes in terms of them.

The words are an axis of sweeps and of the history; a mode of ATC that a person names is filed under one of them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Precision(StrEnum):
    """How ATC may lower the precision of a model; see `ATC_PRECISION_MODE`."""

    FP16 = "fp16"  #: every float32 operator computes in float16
    MIXED = "mixed"  #: ATC decides for each operator
    FP32 = "fp32"  #: float32 wherever the chip can
    ORIGIN = "origin"  #: as the model says


#: Our word -> ATC's `--precision_mode`. `fp16` is ATC's own default.
ATC_PRECISION_MODE: Final[Mapping[Precision, str]] = {
    Precision.FP16: "force_fp16",
    Precision.MIXED: "allow_mix_precision",
    Precision.FP32: "force_fp32",
    Precision.ORIGIN: "must_keep_origin_dtype",
}
#: ATC's `--precision_mode` -> our word.
PRECISION_OF_MODE: Final[Mapping[str, Precision]] = {
    "force_fp16": Precision.FP16,
    "force_fp32": Precision.FP32,
    "must_keep_origin_dtype": Precision.ORIGIN,
    **dict.fromkeys(
        (
            "allow_fp32_to_fp16",
            "allow_mix_precision",
            "allow_mix_precision_fp16",
            "allow_mix_precision_bf16",
            "allow_fp32_to_bf16",
            "cube_fp16in_fp32out",
        ),
        Precision.MIXED,
    ),
}
#: ATC's `--precision_mode_v2` -> our word.
PRECISION_OF_MODE_V2: Final[Mapping[str, Precision]] = {
    "fp16": Precision.FP16,
    "origin": Precision.ORIGIN,
    **dict.fromkeys(
        ("cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "cube_hif8", "mixed_hif8"), Precision.MIXED
    ),
}
#: The modes whose lists of operators `--modify_mixlist` may change.
MIXABLE_MODES: Final = frozenset({"allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16"})
MIXABLE_MODES_V2: Final = frozenset({"mixed_float16", "mixed_bfloat16", "mixed_hif8"})
