"""What a person asks for, read from options and checked before anything is uploaded or sent."""

import difflib
import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cli.session import NO_FLEET, Session
from cli.submitting.options import Run
from npuq.errors import DatabaseError, InvalidRequestError, NotFoundError, NpuqError
from npuq.precision import Precision
from npuq.specs import MAX_BATCH_SIZE, BenchmarkProtocol, RunSpec, SourceKind
from npuq.states import JobKind, Scope

if TYPE_CHECKING:
    from cli.submitting.conversion import ConversionOptions
    from db.records import DatasetRecord, NewArtifact
    from tasks.image_lists import ImageList


@dataclass(frozen=True, kw_only=True)
class Request:
    """A submission as it was typed; see `cli.submitting.options` for what each field means."""

    goals: tuple[JobKind, ...]
    recipe: str
    weights: Path | None = None
    onnx: Path | None = None
    om: Path | None = None
    dataset: str | None = None
    batch_sizes: str | None = "1"
    precision: str | None = None
    soc: str | None = None
    atc: Sequence[str] | None = None
    atc_table: Path | None = None
    cann: str | None = None
    limit: int | None = None
    images: Path | None = None
    loops: int | None = None
    scope: Scope = Scope.CHIP
    pin_pass: Sequence[str] | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    reference: bool = False
    fresh: bool = False
    priority: int = 0
    name: str | None = None
    recipe_option: Sequence[str] | None = None
    test_scales: str | None = None

    @classmethod
    def of(cls, options: Run, goals: Sequence[JobKind]) -> Self:
        """Return the request that a command's options make; what it does not take is as it is by default."""
        typed = {each.name: getattr(options, each.name) for each in fields(options)}
        names = {each.name for each in fields(cls)}
        return cls(goals=tuple(goals), **{name: value for name, value in typed.items() if name in names})

    def source(self) -> tuple[SourceKind, Path]:
        """Return where the run begins; raises InvalidRequestError unless there is exactly one readable file."""
        given = {SourceKind.WEIGHTS: self.weights, SourceKind.ONNX: self.onnx, SourceKind.OM: self.om}
        found = [(kind, path.expanduser()) for kind, path in given.items() if path is not None]
        if len(found) != 1:
            raise InvalidRequestError("say where to begin with exactly one of --weights, --onnx and --om")
        kind, path = found[0]
        if not path.is_file():
            raise InvalidRequestError(f"--{kind}: there is no file {path}")
        if path.stat().st_size == 0:
            raise InvalidRequestError(f"--{kind}: {path} is empty")
        return kind, path

    @cached_property
    def conversion(self) -> "ConversionOptions":
        """Return the options of ATC that were typed, their files read; raises InvalidRequestError."""
        from cli.submitting.conversion import read_conversion

        conversion = read_conversion(self.atc or (), self.atc_table)
        if conversion.dynamic_aipp and not set(self.goals) <= {JobKind.EXPORT, JobKind.CONVERT}:
            raise InvalidRequestError(
                "insert_op_conf: a model with dynamic AIPP takes its parameters with every execution, and npuq's steps "
                "give none; write aipp_mode: static, or only convert it: npuq submit convert"
            )
        return conversion

    @cached_property
    def image_list(self) -> "ImageList | None":
        """Return the images that were listed, None when no list was given; raises InvalidRequestError."""
        from tasks.image_lists import ImageList

        if self.images is None:
            return None
        if self.limit is not None:
            raise InvalidRequestError("--limit and --images exclude each other: each says which part of the dataset")
        path = self.images.expanduser()
        try:
            return ImageList.read(path.read_bytes(), path.name)
        except OSError as error:
            raise InvalidRequestError(f"--images: cannot read {path}: {error.strerror or error}") from error

    def spec(self, run_id: str, kind: SourceKind, file: "NewArtifact", file_name: str) -> RunSpec:
        """Return the validated specification; raises InvalidRequestError."""
        from pydantic import ValidationError

        values: dict[str, Any] = {
            "run_id": run_id,
            "name": self.name or self._usual_name(),
            "submitted_at": datetime.now(UTC),
            "submitter": getpass.getuser(),
            "goals": self.goals,
            "recipe": self.recipe,
            "recipe_options": self.recipe_options(),
            "source": {"kind": kind, "digest": file.digest, "size_bytes": file.size_bytes, "name": file_name},
            "dataset": self.dataset,
            "limit": self.limit,
            "images": self._listed_images(),
            "batch_sizes": self._batch_sizes(),
            "precisions": self._precisions(),
            "soc_version": self.soc,
            "atc": self.conversion.options,
            "cann": self.cann,
            "reference": self.reference,
            "benchmark": BenchmarkProtocol(loops=self.loops),
            "scope": self.scope,
            "pins": self.pins,
            "fresh": self.fresh,
            "priority": self.priority,
        }
        try:
            return RunSpec.model_validate(values)
        except ValidationError as error:
            raise InvalidRequestError(f"cannot submit this: {_explain(error.errors(include_url=False))}") from error

    def _listed_images(self) -> dict[str, Any] | None:
        listed = self.image_list
        return None if listed is None else {"digest": listed.digest, "count": len(listed.lines)}

    def _precisions(self) -> tuple[Precision, ...]:
        """Return the precisions asked for; where none was, that of a mode of ATC, or the recipe's own."""
        from tasks import preferences, registry

        if self.precision is not None:
            return _precisions(self.precision)
        mode = self.conversion.options.precision
        if mode is not None:
            return (mode,)
        return (preferences.precision_of(registry.get(self.recipe)),)

    def _batch_sizes(self) -> tuple[int, ...]:
        """Return the batch sizes asked for; where none was, the recipe's own."""
        from tasks import preferences, registry

        if self.batch_sizes is not None:
            return read_batch_sizes(self.batch_sizes)
        return preferences.batch_sizes_of(registry.get(self.recipe))

    def recipe_options(self) -> dict[str, str]:
        """Return what was chosen of the recipe, name -> value; raises InvalidRequestError."""
        typed = [*(self.recipe_option or ()), *([f"test_scales={self.test_scales}"] if self.test_scales else [])]
        pairs = [option.partition("=") for option in typed]
        chosen = {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs}
        if not all(chosen.values()) or len(chosen) < len(pairs):
            raise InvalidRequestError(
                "--recipe-option is NAME=VALUE, once for each; the names: npuq recipes show " + self.recipe
            )
        return chosen

    def _usual_name(self) -> str:
        what = "sweep" if len(self.goals) > 1 else self.goals[0].value
        return f"{self.recipe} {what}"


def _explain(problems: Any) -> str:  # noqa: ANN401 - pydantic's list of problems
    sentences = []
    for problem in problems:
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        sentences.append(f"{where}: {what}" if where else what)
    return "; ".join(sentences)


def read_batch_sizes(text: str) -> tuple[int, ...]:
    """Read `1,4,8`; raises InvalidRequestError."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequestError(f"--batch-sizes {text!r}: numbers separated by commas, for example 1,4,8") from error
    if not all(1 <= size <= MAX_BATCH_SIZE for size in sizes):
        raise InvalidRequestError(f"--batch-sizes {text!r}: each is from 1 to {MAX_BATCH_SIZE}")
    return sizes


def _precisions(text: str) -> tuple[Precision, ...]:
    try:
        return tuple(Precision(part.strip()) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequestError(f"--precision {text!r}: choose from {', '.join(Precision)}") from error


def check_names(session: Session, request: Request) -> "DatasetRecord | None":
    """Refuse an unknown recipe, dataset or image, and return the dataset, None when the request names none.

    Raises:
        NotFoundError: naming what is meant perhaps.
        InvalidRequestError: the list of images is none, or not of this dataset; the recipe has no such option.
        DatabaseError: the dataset cannot be looked up.
        NpuqError: its manifest is needed, and cannot be had.
    """
    from tasks import registry

    if request.recipe not in registry.names() or request.recipe_options():
        registry.get(request.recipe, request.recipe_options())
    if request.dataset is None:
        return None
    known = known_datasets(session)
    if request.dataset in known:
        check_images(session, request, known[request.dataset])
        return known[request.dataset]
    close = difflib.get_close_matches(request.dataset, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'};"
    raise NotFoundError(
        f"no dataset {request.dataset!r} is registered; {hint} add it with: npuq datasets add {request.dataset} FOLDER"
    )


def check_images(session: Session, request: Request, dataset: "DatasetRecord") -> None:
    """Refuse a list with images that a dataset does not have; raises as `check_names`."""
    from cli.datasets.local import local_ref
    from tasks.datasets import read_manifest

    listed = request.image_list
    if listed is None:
        return
    with local_ref(session, dataset) as ref:
        known = [sample.image_id for sample in read_manifest(ref).samples]
    listed.check_known(frozenset(known), dataset.name, known[0])


def unregistered(request: Request, problem: DatabaseError) -> NpuqError:
    """Return the error of a dataset that has to be known and cannot be looked up."""
    if problem.info.code != NO_FLEET:
        return problem
    return NotFoundError(
        f"no dataset {request.dataset!r} is registered anywhere: {problem}. "
        f"Then register it: npuq datasets add {request.dataset} FOLDER"
    )


def known_datasets(session: Session) -> dict[str, "DatasetRecord"]:
    """Return the registered datasets by name; raises DatabaseError."""
    from db import datasets

    with session.read() as connection:
        return {dataset.name: dataset for dataset in datasets.find(connection)}
