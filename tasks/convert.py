"""The convert step: ONNX to OM with ATC, for one batch size or set of gears, precision and chip. Needs no card."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from npuq.atc_options import FILE_OPTIONS, AtcOptions, read_options
from npuq.errors import InvalidRequestError, ToolError
from npuq.precision import Precision
from tasks import atc, cann, registry
from tasks.atc_command import AtcCommand
from tasks.atc_environment import atc_environment
from tasks.atc_request import RecipeTable, input_shapes, merged, recipe_table
from tasks.protocols import Recipe
from tasks.steps import StepContext, StepOutcome, StepRequest

_HASH_BLOCK_BYTES: Final = 2**20


def run(context: StepContext) -> StepOutcome:
    """Convert the ONNX of the request.

    Params: `batch_size` (unless `atc` has gears of it), `precision` (our word, see `npuq.precision`), `soc_version`;
    perhaps `atc` (`AtcOptions.to_json`, the recipe's included) and `cann` (a version). A further attempt compiles with
    less of the host.

    Raises:
        InvalidRequestError: parameters or inputs that cannot be.
        ToolMissingError: no CANN on this host, or not the version that is asked for.
        ToolError: ATC failed.
    """
    request = context.request
    command = atc_command(request, registry.get(request.recipe, request.recipe_options))
    toolkit = cann.find_toolkit(os.environ, request.params.get("cann"))
    program = cann.find_atc(toolkit, os.environ)
    environment = atc_environment(os.environ, toolkit, request.workdir, attempt=request.attempt)
    Path(environment["HOME"]).mkdir(exist_ok=True)
    context.progress(0, 1, "models")
    try:
        done = atc.run_atc(program, command, cwd=request.workdir, environment=environment)
    except ToolError as error:
        if _may_help(error, request.attempt):
            raise
        raise _too_small(error) from error
    context.progress(1, 1, "models")
    return StepOutcome(
        outputs={"om": (done.om,)},
        facts={
            "command": list(done.command),
            "atc_seconds": round(done.seconds, 3),
            "atc_options": command.options.to_json(),
            "cann_version": toolkit.version,
            "toolchain": toolkit.fingerprint,
            "compile_processes": int(environment["MAX_COMPILE_CORE_NUMBER"]),
            "soc_version": command.soc_version,
            "precision_mode": command.precision_mode,
            "om_sha256": _sha256(done.om),
            "om_bytes": done.om.stat().st_size,
        },
    )


def _may_help(error: ToolError, attempt: int) -> bool:
    """Tell whether the error stands as it is; after one of memory a host gets one more try, which has the least."""
    return error.info.code != atc.OUT_OF_MEMORY or attempt == 1


def _too_small(error: ToolError) -> ToolError:
    return ToolError(
        f"{error.info.message} It was tried with fewer compile processes too: this host is too small for the model.",
        code=error.info.code,
        blame=error.info.blame,
        retry=False,
        detail=error.info.detail,
    )


def atc_command(request: StepRequest, recipe: Recipe) -> AtcCommand:
    """Return what ATC is told for a request, its files in the work folder; raises InvalidRequestError."""
    try:
        batch_size = int(request.params.get("batch_size", 1))
        precision = Precision(request.params["precision"])
        soc_version = str(request.params["soc_version"])
        own = read_options(request.params.get("atc", {}))
        (model,) = request.inputs["onnx"]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"A convert job needs batch_size, precision, soc_version and one ONNX file; wrong is: {error!r}."
        ) from error
    table = recipe_table(recipe)
    options = merged(own, table.options, precision)
    if "batch_size" not in request.params and not options.batch_gears:
        raise InvalidRequestError("A convert job without gears of the batch size needs batch_size.")
    return AtcCommand(
        model=model.absolute(),
        output=request.workdir.absolute() / _output_name(recipe, batch_size, options),
        input_shapes=input_shapes(recipe.inputs, batch_size, options),
        soc_version=soc_version,
        precision=precision,
        options=options,
        files=_bring_files(request, options, table),
    )


def _output_name(recipe: Recipe, batch_size: int, options: AtcOptions) -> str:
    return f"{recipe.id}_{options.gears}" if options.gears else f"{recipe.id}_bs{batch_size}"


def _bring_files(request: StepRequest, options: AtcOptions, table: RecipeTable) -> Mapping[str, Path]:
    """Copy what the options name into the work folder, under the option's name; raises InvalidRequestError."""
    folder = request.workdir.absolute() / "options"
    files: dict[str, Path] = {}
    for option, digest in options.files.items():
        uploaded = request.inputs.get(option, ())
        source = uploaded[0] if uploaded else table.files.get(option)
        if source is None or _sha256(source) != digest:
            raise InvalidRequestError(f"ATC option {option}: the file {digest[:12]} did not come with the job")
        folder.mkdir(exist_ok=True)
        files[option] = Path(shutil.copyfile(source, folder / f"{option}{FILE_OPTIONS[option]}"))
    return files


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
