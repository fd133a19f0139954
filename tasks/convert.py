"""The convert step: ONNX to OM with ATC, for one batch size, precision and kind of chip. Needs no card."""

import hashlib
import os
from pathlib import Path
from typing import Final

from npuq.errors import InvalidRequestError
from npuq.specs import ATC_PRECISION_MODE, Precision
from tasks import atc, cann, registry
from tasks.protocols import Recipe
from tasks.steps import StepContext, StepOutcome, StepRequest

_HASH_BLOCK_BYTES: Final = 2**20


def run(context: StepContext) -> StepOutcome:
    """Convert the ONNX of the request.

    Params: `batch_size`, `precision` (our word, see `npuq.specs.Precision`), `soc_version`.

    Raises:
        InvalidRequestError: parameters or inputs that cannot be.
        ToolMissingError: no CANN on this host.
        ToolError: ATC failed.
    """
    request = context.request
    options = atc_options(request, registry.get(request.recipe))
    program = cann.find_atc(os.environ)
    toolkit_version = cann.fingerprint(os.environ).removeprefix("cann-")
    context.progress(0, 1, "models")
    done = atc.run_atc(
        program,
        options,
        cwd=request.workdir,
        environment=cann.atc_environment(os.environ, request.workdir / "ascend_log"),
    )
    context.progress(1, 1, "models")
    return StepOutcome(
        outputs={"om": (done.om,)},
        facts={
            "command": list(done.command),
            "atc_seconds": round(done.seconds, 3),
            "cann_version": toolkit_version,
            "soc_version": options.soc_version,
            "precision_mode": options.precision_mode,
            "om_sha256": _sha256(done.om),
            "om_bytes": done.om.stat().st_size,
        },
    )


def atc_options(request: StepRequest, recipe: Recipe) -> atc.AtcOptions:
    """Return what ATC is told for a request; raises InvalidRequestError."""
    try:
        batch_size = int(request.params["batch_size"])
        precision = Precision(request.params["precision"])
        soc_version = str(request.params["soc_version"])
        (model,) = request.inputs["onnx"]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"A convert job needs batch_size, precision, soc_version and one ONNX file; wrong is: {error!r}."
        ) from error
    return atc.AtcOptions(
        model=model.absolute(),
        output=request.workdir.absolute() / f"{recipe.id}_bs{batch_size}",
        input_shapes={tensor.name: tensor.at_batch(batch_size) for tensor in recipe.inputs},
        soc_version=soc_version,
        precision_mode=ATC_PRECISION_MODE[precision],
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
