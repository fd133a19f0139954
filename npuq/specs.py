"""What is asked for: the specification of a run, validated before anything acts on it, and content keys.

A specification names artifacts by digest and never holds a path: paths from a laptop mean nothing on a worker.
"""

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from npuq.atc_options import AtcOptions, CannVersion
from npuq.canonical_json import canonical_json
from npuq.precision import Precision
from npuq.states import JobKind, Scope

SPEC_SCHEMA: Final = 1
TOOLCHAIN_PREFIX: Final = "cann-"
"""Before the version of CANN in the fingerprint of a toolchain."""
MAX_BATCH_SIZE: Final = 4096
MAX_BATCH_SIZES: Final = 64
MAX_LISTED_IMAGES: Final = 10_000_000
MAX_PINS: Final = 16

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
RunId = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
]
SocVersion = Annotated[str, StringConstraints(pattern=r"^Ascend[0-9][0-9A-Za-z_-]{1,30}$")]
OptionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
OptionValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,200}$")]
DeviceId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
DisplayName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class SourceKind(StrEnum):
    """What the person uploaded, and so where the graph of jobs begins."""

    WEIGHTS = "weights"  #: a published checkpoint: export, convert, ...
    ONNX = "onnx"  #: convert, ...
    OM = "om"  #: straight to the chip


class _Strict(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Strict):
    """An uploaded file."""

    kind: SourceKind
    digest: Digest
    size_bytes: int = Field(ge=1, le=64 * 2**30)
    name: DisplayName


class ListedImages(_Strict):
    """A part of a dataset: an uploaded list of image ids (`tasks.image_lists`), and how many it holds."""

    digest: Digest
    count: int = Field(ge=1, le=MAX_LISTED_IMAGES)


class BenchmarkProtocol(_Strict):
    """How a benchmark job measures (design, section 8).

    Attributes:
        warmup: executions before the measurement, not counted.
        loops: a fixed number of executions (the guides' `--loop N`); None: until the 95 % interval of the median is
            within ±0.5 %, or `max_seconds`.
        max_seconds: cap of the open-ended form, in seconds.
        require_idle: refuse to measure on a chip that is not idle by `npu-smi`.
    """

    warmup: int = Field(default=5, ge=0, le=10_000)
    loops: int | None = Field(default=None, ge=1, le=1_000_000)
    max_seconds: float = Field(default=30.0, gt=0, le=3_600)
    require_idle: bool = True


class RunSpec(_Strict):
    """One submitted run: a single goal or a whole sweep.

    `recipe_options` are what is chosen of the recipe (`tasks.protocols.Configurable`), name -> value as typed.
    The planner starts at `source` and adds every job that leads to the `goals`, once per batch size and precision.
    `limit` (the first so many) or `images` choose a part of the dataset; neither: all of it. `atc` holds options of the
    conversion, over those of the recipe; `cann` is the version that converts, None: the fleet's newest. `reference`
    scores the ONNX in float32 on a host's CPU instead of a conversion on a chip. `scope` says whether benchmarks
    measure whole cards besides single chips. `pins` is pass -> id of the device that its infer jobs run on and nowhere
    else.
    """

    schema_version: Literal[1] = SPEC_SCHEMA
    run_id: RunId
    name: DisplayName
    submitted_at: AwareDatetime
    submitter: DisplayName
    goals: tuple[JobKind, ...] = Field(min_length=1, max_length=len(JobKind))
    recipe: Name
    recipe_options: dict[OptionName, OptionValue] = Field(default_factory=dict, max_length=20)
    source: Source
    dataset: Name | None = None
    limit: int | None = Field(default=None, ge=1)
    images: ListedImages | None = None
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)], ...] = Field(
        default=(1,), min_length=1, max_length=MAX_BATCH_SIZES
    )
    precisions: tuple[Precision, ...] = Field(default=(Precision.FP16,), min_length=1, max_length=len(Precision))
    soc_version: SocVersion | None = None
    atc: AtcOptions = AtcOptions()
    cann: CannVersion | None = None
    reference: bool = False
    benchmark: BenchmarkProtocol = BenchmarkProtocol()
    scope: Scope = Scope.CHIP
    pins: Mapping[Name, DeviceId] = Field(default={}, max_length=MAX_PINS)
    fresh: bool = False
    priority: int = Field(default=0, ge=-100, le=100)
    max_attempts: int = Field(default=3, ge=1, le=10)

    @field_validator("batch_sizes", "precisions", "goals")
    @classmethod
    def _no_doubles(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"listed twice: {', '.join(str(value) for value in values)}")
        return values

    @model_validator(mode="after")
    def _needs_dataset(self) -> Self:
        scored = {JobKind.INFER, JobKind.EVALUATE} & set(self.goals)
        if scored and self.dataset is None:
            raise ValueError(f"{', '.join(sorted(scored))} needs a dataset")
        if self.images is not None and self.limit is not None:
            raise ValueError("limit and images exclude each other: each says which part of the dataset")
        if self.images is not None and self.dataset is None:
            raise ValueError("a list of images needs a dataset")
        if self.source.kind is not SourceKind.WEIGHTS and JobKind.EXPORT in self.goals:
            raise ValueError("export starts from weights")
        if self.source.kind is SourceKind.OM and JobKind.CONVERT in self.goals:
            raise ValueError("convert starts from weights or ONNX, the source is already an OM")
        return self

    @model_validator(mode="after")
    def _places_fit(self) -> Self:
        if self.pins and not {JobKind.INFER, JobKind.EVALUATE} & set(self.goals):
            raise ValueError("a pass is pinned for infer jobs, and this asks for none")
        if self.pins and self.reference:
            raise ValueError("a reference runs on no chip: there is nothing to pin")
        if self.scope is Scope.CARD and JobKind.BENCHMARK not in self.goals:
            raise ValueError("the scope is that of a benchmark, and this asks for none")
        return self

    @model_validator(mode="after")
    def _reference_fits(self) -> Self:
        if not self.reference:
            return self
        if set(self.goals) != {JobKind.EVALUATE}:
            raise ValueError("a reference is scored, nothing else: its goal is evaluate")
        if self.source.kind is SourceKind.OM:
            raise ValueError("a reference is the ONNX in float32: begin at weights or ONNX")
        if len(self.batch_sizes) > 1 or len(self.precisions) > 1:
            raise ValueError("a reference is the same for all batch sizes and precisions: ask for one")
        if self.soc_version is not None or self.cann is not None or self.atc != AtcOptions():
            raise ValueError("a reference runs on no chip: soc_version, cann and options of ATC change nothing")
        return self

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        for precision in self.precisions:
            self.atc.check_precision(precision)
        if self.source.kind is SourceKind.OM and (self.cann is not None or self.atc != AtcOptions()):
            raise ValueError("the source is an OM already: ATC's options and --cann change nothing")
        one_shape = None if self.atc.batch_gears else self.atc.gears
        if len(self.batch_sizes) > 1 and (one_shape or self.atc.input_shape):
            raise ValueError(f"{one_shape or 'input_shape'} gives the batch size itself: ask for one batch size")
        only_converted = one_shape or ("insert_op_conf" if self.atc.insert_op_conf else None)
        if only_converted and self.runs_models:
            raise ValueError(f"a recipe feeds one shape of its own numbers: {only_converted} goes with convert only")
        return self

    @property
    def runs_models(self) -> bool:
        """Return whether a goal needs a chip, and not only a model for it."""
        return bool(set(self.goals) - {JobKind.EXPORT, JobKind.CONVERT})


def content_key(
    kind: JobKind,
    *,
    recipe: str,
    recipe_version: int,
    inputs: Mapping[str, tuple[str, ...]],
    params: Mapping[str, Any],
    toolchain: str,
) -> str:
    """Return the SHA-256 that equal work shares (design, section 7).

    Args:
        kind: the step.
        recipe: recipe id.
        recipe_version: rises when the recipe computes something else.
        inputs: role -> digests of the input artifacts, in order.
        params: everything that changes the outcome; none of the machine's accidents.
        toolchain: fingerprint of the tools that do the work (ATC/CANN version for convert), or "".
    """
    document = {
        "kind": kind.value,
        "recipe": recipe,
        "recipe_version": recipe_version,
        "inputs": {role: list(digests) for role, digests in inputs.items()},
        "params": dict(params),
        "toolchain": toolchain,
    }
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def derived_id(*parts: str) -> str:
    """Return a 32-digit id made from its parts, so that making it twice gives the same thing."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


_UNSAFE_IN_ID = re.compile(r"[^A-Za-z0-9._-]+")


def id_component(text: str) -> str:
    """Return text reduced to what may stand in a queue name, a file name and a device id."""
    return _UNSAFE_IN_ID.sub("-", text).strip("-.") or "unnamed"
