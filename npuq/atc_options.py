"""What a conversion may be asked beyond model, chip and batch size: ATC's options as typed values, an allow-list.

Names and values are ATC's own. What is not a field here never reaches `atc`: options that load code, name folders, tune
on a card or write more than one model are left out on purpose. Options that take a file hold the SHA-256 of an uploaded
one; its text is `npuq.atc_files`' business. Checked where a run is submitted, and again where it is converted.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from npuq.atc_shapes import MAX_INPUTS, MAX_RANK, Dimension, parse_shapes
from npuq.errors import InvalidRequestError
from npuq.precision import MIXABLE_MODES, MIXABLE_MODES_V2, PRECISION_OF_MODE, PRECISION_OF_MODE_V2, Precision

MIN_GEARS: Final = 2
MAX_GEARS: Final = 100
MAX_GEAR_VALUES: Final = MAX_INPUTS * MAX_RANK
MAX_NAMES: Final = 200

#: The exporter of torch begins the names of nodes with a slash.
_NODE: Final = r"[A-Za-z0-9_/][A-Za-z0-9_./-]*"
_DTYPE: Final = r"(?:FP32|FP16|UINT8)"
Positive = Annotated[int, Field(ge=1, le=2**20)]
NodeName = Annotated[str, StringConstraints(pattern=rf"^{_NODE}$", max_length=200)]
NodeOutput = Annotated[str, StringConstraints(pattern=rf"^{_NODE}:[0-9]{{1,4}}$", max_length=200)]
OpType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,99}$")]
OutputType = Annotated[
    str, StringConstraints(pattern=rf"^(?:{_DTYPE}|{_NODE}:[0-9]{{1,4}}:{_DTYPE}(?:;{_NODE}:[0-9]{{1,4}}:{_DTYPE})*)$")
]
FileDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
CannVersion = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z._-]{0,39}$")]


def _split(separator: str) -> BeforeValidator:
    """Let a list be written as ATC writes it: one text."""

    def split(value: object) -> object:
        return [part.strip() for part in value.strip().split(separator)] if isinstance(value, str) else value

    return BeforeValidator(split)


def _split_gears(value: object) -> object:
    """Read "416,416;832,832"."""
    return [part.split(",") for part in value.strip().split(";")] if isinstance(value, str) else value


_GearList = Field(min_length=MIN_GEARS, max_length=MAX_GEARS)
_NameList = Field(min_length=1, max_length=MAX_NAMES)
Switch = Literal[0, 1]
#: The options that are mutually exclusive: each compiles one model for several shapes.
GEAR_OPTIONS: Final = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims")
#: The options that hold the digest of an uploaded file, and the suffix that ATC's users give such files.
FILE_OPTIONS: Final[Mapping[str, str]] = {
    "insert_op_conf": ".cfg",
    "modify_mixlist": ".json",
    "op_precision_mode": ".ini",
    "fusion_switch_file": ".cfg",
    "keep_dtype": ".cfg",
}
#: One character between the parts of a list, as ATC writes it; "," where nothing is said.
_JOINTS: Final[Mapping[str, str]] = {"out_nodes": ";", "input_fp16_nodes": ";"}


class AtcOptions(BaseModel):
    """Options of one conversion; None leaves the choice to ATC.

    Attributes:
        input_format: layout of the inputs; by default NCHW for images and ND for everything else.
        input_shape: `name:1,3,224,224;other:1,10` in place of the recipe's; -1 where a gear decides, `1~8` or -1
            without gears for a model of dynamic shape.
        dynamic_batch_size: gears for the first dimension.
        dynamic_image_size: gears (height, width).
        dynamic_dims: gears with a value for each -1 of the input shapes, in order; with input_format ND.
        out_nodes: `node:output`, where the model is cut.
        output_type: FP32, FP16 or UINT8 for all outputs, or `node:output:FP16;...`.
        input_fp16_nodes: inputs that take float16.
        insert_op_conf: AIPP: preprocessing on the chip, the input becomes uint8.
        precision_mode: see `npuq.precision`; not together with precision_mode_v2.
        precision_mode_v2: the newer names of the same.
        modify_mixlist: operator types that mixed precision lowers or keeps; with mixed precision only.
        op_precision_mode: precision of single operator types.
        op_select_implmode: which implementations of operators are preferred.
        optypelist_for_implmode: the operator types that op_select_implmode means.
        keep_dtype: nodes that keep their data type.
        fusion_switch_file: which fusion passes are off.
        buffer_optimize: use of the chip's L2 buffer.
        enable_small_channel: 1: a faster first convolution for inputs of few channels.
        disable_reuse_memory: 1: every tensor has memory of its own.
        deterministic: 1: equal input gives equal output, more slowly.
        core_type: which cores compute.
        aicore_num: how many.
        op_debug_level: what operator compilation leaves behind.
        log: how much ATC tells; a conversion that is asked to tell more is made anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_format: Literal["NCHW", "ND", "NCDHW"] | None = None
    input_shape: str | None = Field(default=None, max_length=4000)
    dynamic_batch_size: Annotated[tuple[Positive, ...], _GearList, _split(",")] | None = None
    dynamic_image_size: (
        Annotated[tuple[tuple[Positive, Positive], ...], _GearList, BeforeValidator(_split_gears)] | None
    ) = None
    dynamic_dims: (
        Annotated[
            tuple[Annotated[tuple[Positive, ...], Field(min_length=1, max_length=MAX_GEAR_VALUES)], ...],
            _GearList,
            BeforeValidator(_split_gears),
        ]
        | None
    ) = None
    out_nodes: Annotated[tuple[NodeOutput, ...], _NameList, _split(";")] | None = None
    output_type: OutputType | None = None
    input_fp16_nodes: Annotated[tuple[NodeName, ...], _NameList, _split(";")] | None = None
    insert_op_conf: FileDigest | None = None
    precision_mode: (
        Literal[
            "force_fp16",
            "force_fp32",
            "allow_fp32_to_fp16",
            "must_keep_origin_dtype",
            "allow_mix_precision",
            "allow_mix_precision_fp16",
            "allow_mix_precision_bf16",
            "allow_fp32_to_bf16",
            "cube_fp16in_fp32out",
        ]
        | None
    ) = None
    precision_mode_v2: (
        Literal["fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "cube_hif8", "mixed_hif8"]
        | None
    ) = None
    modify_mixlist: FileDigest | None = None
    op_precision_mode: FileDigest | None = None
    op_select_implmode: (
        Literal["high_performance", "high_precision", "high_performance_for_all", "high_precision_for_all"] | None
    ) = None
    optypelist_for_implmode: Annotated[tuple[OpType, ...], _NameList, _split(",")] | None = None
    keep_dtype: FileDigest | None = None
    fusion_switch_file: FileDigest | None = None
    buffer_optimize: Literal["l2_optimize", "off_optimize"] | None = None
    enable_small_channel: Switch | None = None
    disable_reuse_memory: Switch | None = None
    deterministic: Switch | None = None
    core_type: Literal["AiCore", "VectorCore"] | None = None
    aicore_num: Annotated[int, Field(ge=1, le=64)] | None = None
    op_debug_level: Annotated[int, Field(ge=0, le=4)] | None = None
    log: Literal["debug", "info", "warning", "error", "null"] | None = None

    @field_validator("enable_small_channel", "disable_reuse_memory", "deterministic", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return {"0": 0, "1": 1}.get(value, value) if isinstance(value, str) else value

    @field_validator("input_shape")
    @classmethod
    def _shape_is_readable(cls, value: str | None) -> str | None:
        return None if value is None else ";".join(_shape_text(*item) for item in parse_shapes(value).items())

    @field_validator(*GEAR_OPTIONS, "out_nodes", "input_fp16_nodes", "optypelist_for_implmode")
    @classmethod
    def _no_doubles(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is not None and len(set(values)) != len(values):
            raise ValueError("a value is listed twice")
        return values

    @model_validator(mode="after")
    def _one_kind_of_gears(self) -> Self:
        given = [name for name in GEAR_OPTIONS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.dynamic_dims is not None and self.input_format not in {None, "ND"}:
            raise ValueError("dynamic_dims needs input_format ND")
        if self.dynamic_dims is not None and len({len(gear) for gear in self.dynamic_dims}) > 1:
            raise ValueError("dynamic_dims: every gear has as many values as the input shapes have -1")
        return self

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.precision_mode is not None and self.precision_mode_v2 is not None:
            raise ValueError("precision_mode and precision_mode_v2 exclude each other")
        if self.optypelist_for_implmode is not None and self.op_select_implmode not in _WITH_OP_TYPES:
            raise ValueError(f"optypelist_for_implmode needs op_select_implmode {' or '.join(sorted(_WITH_OP_TYPES))}")
        if self.input_fp16_nodes is not None and self.insert_op_conf is not None:
            raise ValueError("an input with AIPP (insert_op_conf) takes uint8: leave out input_fp16_nodes")
        return self

    @property
    def precision(self) -> Precision | None:
        """Return npuq's word for the precision mode that is asked for, None when none is."""
        if self.precision_mode is not None:
            return PRECISION_OF_MODE[self.precision_mode]
        return None if self.precision_mode_v2 is None else PRECISION_OF_MODE_V2[self.precision_mode_v2]

    @property
    def gears(self) -> str | None:
        """Return the name of the gear option that is set, or None."""
        return next((name for name in GEAR_OPTIONS if getattr(self, name) is not None), None)

    @property
    def batch_gears(self) -> tuple[int, ...]:
        """Return the batch sizes that one model serves with the recipe's shapes, () when it serves just one."""
        return self.dynamic_batch_size if self.dynamic_batch_size is not None and self.input_shape is None else ()

    @property
    def files(self) -> dict[str, str]:
        """Return option -> digest for the options that hold a file."""
        return {name: digest for name in FILE_OPTIONS if (digest := getattr(self, name)) is not None}

    @property
    def shapes(self) -> dict[str, tuple[Dimension, ...]]:
        """Return the shapes of `input_shape` by input; {} without."""
        return {} if self.input_shape is None else parse_shapes(self.input_shape)

    def check_precision(self, precision: Precision) -> None:
        """Refuse options that do not go with a precision; raises ValueError."""
        if self.precision is not None and self.precision is not precision:
            mode = self.precision_mode or self.precision_mode_v2
            raise ValueError(f"the mode {mode} is precision {self.precision}, but the run asks for {precision}")
        if self.modify_mixlist is not None:
            named = self.precision_mode or self.precision_mode_v2
            if precision is not Precision.MIXED or named not in {None, *MIXABLE_MODES, *MIXABLE_MODES_V2}:
                raise ValueError("modify_mixlist goes with mixed precision only: ask for precision mixed")

    def to_json(self) -> dict[str, Any]:
        """Return what is set, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True)

    def flags(self) -> dict[str, str]:
        """Return flag -> value for `atc`, without shapes, format, gears' open dimensions and files."""
        left_to_others = {"input_shape", "input_format", *FILE_OPTIONS}
        return {name: text for name, text in self.written().items() if name not in left_to_others}

    def written(self) -> dict[str, str]:
        """Return option -> value for all that is set, as ATC writes it; of files their digest."""
        return {name: _text(name, value) for name, value in self if value is not None}


_A_FILE: Final = "the SHA-256 of an uploaded file"
#: How an option is written whose pattern would not tell a person.
_FORMS: Final[Mapping[str, str]] = {
    "dynamic_batch_size": f"{MIN_GEARS} to {MAX_GEARS} batch sizes from 1 on, for example 1,4,8",
    "dynamic_image_size": f"{MIN_GEARS} to {MAX_GEARS} sizes HEIGHT,WIDTH, for example 416,416;832,832",
    "dynamic_dims": f"{MIN_GEARS} to {MAX_GEARS} gears, a size for each -1 of input_shape, for example 1,600;2,600",
    "out_nodes": "NODE:OUTPUT, several separated by semicolons, for example Concat_7:0;Reshape_9:1",
    "output_type": "FP32, FP16 or UINT8, or NODE:OUTPUT:TYPE of single outputs, for example Concat_7:0:FP16",
    "input_fp16_nodes": "names of inputs separated by semicolons, for example image;mask",
    "optypelist_for_implmode": "types of operators separated by commas, for example Gelu,Sigmoid",
    **dict.fromkeys(FILE_OPTIONS, _A_FILE),
}
_WITH_OP_TYPES: Final = frozenset({"high_performance", "high_precision"})


def _shape_text(name: str, shape: tuple[Dimension, ...]) -> str:
    return f"{name}:{','.join(str(size) for size in shape)}"


def _text(name: str, value: object) -> str:
    """Return a value as ATC writes it."""
    if not isinstance(value, tuple):
        return str(value)
    if value and isinstance(value[0], tuple):
        return ";".join(",".join(str(number) for number in gear) for gear in value)
    return _JOINTS.get(name, ",").join(str(part) for part in value)


def read_options(values: Mapping[str, Any]) -> AtcOptions:
    """Return checked options.

    Raises:
        InvalidRequestError: an unknown option or an impossible value; the message names each.
    """
    try:
        return AtcOptions.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        sentences = dict.fromkeys(_explain(problem) for problem in problems)  # each once: a list has many elements
        raise InvalidRequestError(f"ATC options: {'; '.join(sentences)}") from error


def _explain(problem: Any) -> str:  # noqa: ANN401 - one of pydantic's problems
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where} is not an option that npuq passes on"
    option = str(problem["loc"][0]) if problem["loc"] else ""
    if option in _FORMS and problem["type"] != "value_error":
        return f"{option}: write {_FORMS[option]}"
    text = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
